"""The model hub, asked once: its own client would retry for half a minute before it says that nobody is there."""

from __future__ import annotations

import ssl
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

_PROBE_TIMEOUT_S = 5.0


def unreachable_reason(place: str) -> str | None:
    """Why the hub cannot be reached, or None; `place` is what will be asked of it, as in `api/models/NAME`.

    Any answer means that it is there, an error status and a certificate that only this probe refuses included.
    """
    from huggingface_hub import constants

    probe = Request(f"{constants.ENDPOINT}/{place}", method="HEAD")  # noqa: S310 - the hub's own address
    try:
        urlopen(probe, timeout=_PROBE_TIMEOUT_S).close()  # noqa: S310
    except HTTPError as error:
        error.close()
    except URLError as error:
        return None if isinstance(error.reason, ssl.SSLError) else str(error.reason)
    except OSError as error:
        return str(error)
    return None


def is_offline() -> bool:
    """Whether the user told the hub's client to stay off the network (`HF_HUB_OFFLINE=1`)."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE
