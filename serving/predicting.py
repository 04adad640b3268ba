"""`POST /predict`: what it takes and what it answers."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from serving.bundle import Task
from serving.jobs import Outcome
from serving.limits import LONGEST_DEADLINE_MS, Limits
from serving.messages import Refusal, whole_number
from serving.predictions import AnyPrediction, MultiLabelPrediction, NumberPrediction, Prediction

DEADLINE_HEADER: Final = b"x-deadline-ms"
_EXPECTED: Final = 'expected {"text": "..."} or {"texts": ["...", ...]}'
# What `str.isspace` takes for white space, spelt out: what \s stands for differs from one reader of schemas to another.
NOT_BLANK: Final = r"[^\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
_Text = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "pattern": NOT_BLANK})]
# To JSON, and so to its schema, 2.0 is a whole number as 2 is.
_WholeNumber = Annotated[float, msgspec.Meta(ge=1, multiple_of=1, extra_json_schema={"type": "integer"})]


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /predict`: one of `text` and `texts`.

    `top_k` keeps so many of the scores, highest first; `logits` adds the scores before the softmax or sigmoid.
    """

    text: _Text | msgspec.UnsetType = msgspec.UNSET
    texts: Annotated[list[_Text], msgspec.Meta(extra_json_schema={"minItems": 1})] | msgspec.UnsetType = msgspec.UNSET
    top_k: _WholeNumber | msgspec.UnsetType = msgspec.UNSET
    logits: bool = False


class PredictResponse(msgspec.Struct, frozen=True):
    """Answer to `{"texts": [...]}`, in the order of the texts; `{"text": ...}` is answered by a bare `Prediction`."""

    predictions: list[Prediction]


class MultiLabelResponse(msgspec.Struct, frozen=True):
    """As `PredictResponse`, where each label is judged for itself."""

    predictions: list[MultiLabelPrediction]


class NumbersResponse(msgspec.Struct, frozen=True):
    """As `PredictResponse`, of a regression."""

    predictions: list[NumberPrediction]


# What one text and several are answered with.
ANSWERS: Final[Mapping[Task, tuple[type[msgspec.Struct], type[msgspec.Struct]]]] = {
    "single-label": (Prediction, PredictResponse),
    "multi-label": (MultiLabelPrediction, MultiLabelResponse),
    "regression": (NumberPrediction, NumbersResponse),
}

_decode = msgspec.json.Decoder(PredictRequest).decode


def parse(body: bytes) -> PredictRequest:
    """The request in a body; `Refusal` where it is not JSON (400) or asks for something else (422)."""
    try:
        asked = _decode(body)
    except msgspec.ValidationError as error:
        raise Refusal(422, f"{str(error)[:200]}; {_EXPECTED}") from None
    except UnicodeDecodeError:
        raise Refusal(400, "the body is not UTF-8; send JSON in UTF-8") from None
    except msgspec.DecodeError as error:
        raise Refusal(400, f"the body is not valid JSON: {str(error)[:200]}; {_EXPECTED}") from None
    except RecursionError:
        raise Refusal(400, f"the body is nested too deeply; {_EXPECTED}") from None
    if asked.text is not msgspec.UNSET and asked.texts is not msgspec.UNSET:
        raise Refusal(422, f"the body names both text and texts; {_EXPECTED}")
    return asked


def texts_of(asked: PredictRequest, limits: Limits) -> list[str]:
    """The texts to classify; `Refusal` where there are none, too many, or one that is blank or too long."""
    if isinstance(asked.text, str):
        refuse_unfit(asked.text, "text", limits)
        return [asked.text]
    if not isinstance(asked.texts, list):
        raise Refusal(422, f"the body names neither text nor texts; {_EXPECTED}")
    refuse_number(asked.texts, limits)
    for position, text in enumerate(asked.texts):
        refuse_unfit(text, f"texts[{position}]", limits)
    return asked.texts


def refuse_number(texts: list[str], limits: Limits) -> None:
    """`Refusal` where there are no texts or too many."""
    if not texts:
        raise Refusal(422, "texts is empty; send at least one text")
    if len(texts) > limits.max_texts:
        raise Refusal(413, f"{len(texts)} texts are too many; send at most {limits.max_texts} at once")


def refuse_unfit(text: str, name: str, limits: Limits) -> None:
    """`Refusal` where there is nothing to classify, or too much."""
    if not text or text.isspace():
        raise Refusal(422, f"{name} is empty or only white space; send a text to classify")
    if len(text) > limits.max_text_chars:
        raise Refusal(413, f"{name} has {len(text)} characters; send at most {limits.max_text_chars}")


def deadline_s(value: bytes) -> float:
    """Seconds that the deadline header leaves; `Refusal` where it names no time that can be kept."""
    number = whole_number(value)
    if number is None or not 1 <= number <= LONGEST_DEADLINE_MS:
        raise Refusal(400, f"X-Deadline-Ms is not a whole number of milliseconds from 1 to {LONGEST_DEADLINE_MS}")
    return number / 1000


def body_of(asked: PredictRequest, outcomes: list[Outcome], task: Task) -> msgspec.Struct:
    """What is answered, in the form that was asked for: one of the two that `ANSWERS` has for the task."""
    predictions = [outcome.prediction for outcome in outcomes]
    if asked.logits or asked.top_k is not msgspec.UNSET:
        predictions = [_as_asked(asked, outcome) for outcome in outcomes]
    several: Any = ANSWERS[task][1]
    return predictions[0] if isinstance(asked.text, str) else several(predictions)


def _as_asked(asked: PredictRequest, outcome: Outcome) -> AnyPrediction:
    prediction = outcome.prediction
    labels = list(prediction.scores)
    logits = dict(zip(labels, outcome.logits.tolist(), strict=True))
    if isinstance(asked.top_k, float):
        labels = sorted(labels, key=prediction.scores.__getitem__, reverse=True)[: int(asked.top_k)]
    return msgspec.structs.replace(
        prediction,
        scores={label: prediction.scores[label] for label in labels},
        logits={label: logits[label] for label in labels} if asked.logits else msgspec.UNSET,
    )
