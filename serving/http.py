"""The endpoint's HTTP face: what it accepts, what it answers, and how it says no.

Every refusal is a 4xx or 503 with `{"error": "one sentence"}`. The text that a user sends is neither logged nor quoted.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from serving.batching import Batcher
from serving.classifier import DEFAULT_BATCH, Classifier, Prediction
from serving.errors import EngineError, Overloaded

logger = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 1
_Count = Annotated[int, msgspec.Meta(ge=1)]
