"""The OpenAPI 3.1 document, derived: paths from the table of routes, schemas from the structs that are decoded into."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from serving.limits import LONGEST_DEADLINE_MS, Limits
from serving.messages import ErrorBody

JSON: Final = "application/json"
_TEXT: Final = "text/plain"
_OCTETS: Final = "application/octet-stream"
_REF: Final = "#/components/schemas/{name}"
_MEANINGS: Final = {
    400: "not a request that can be read",
    401: "no API key, or an unknown one",
    404: "no such model or version",
    408: "the request was not complete in time",
    413: "a body, a text or their number beyond the limits",
    415: "a content type that is not understood",
    422: "JSON that asks for something else",
    431: "path and headers beyond the limits",
    500: "a fault of the endpoint",
    503: "no answer within the deadline, a full queue, or an endpoint that starts or stops; try again",
}
# May be the answer to any request, whatever its route.
_ANYWHERE: Final = (400, 408, 413, 431, 500, 503)


class Operation(NamedTuple):
    """One method on one path. `answers` are the types that a 200 may have: `str` is text, `dict` any JSON.

    `binary` says that bytes may follow the JSON, in the request and in the answer.
    """

    method: str
    path: str
    summary: str
    request: type | None
    answers: tuple[type, ...]
    refusals: tuple[int, ...] = ()
    binary: bool = False


def document(
    operations: Sequence[Operation], keyless: Sequence[Operation], model: str, limits: Limits, version: str
) -> dict[str, Any]:
    """The document for these operations, of which `keyless` need no API key, and the one model served."""
    mentioned = [kind for operation in operations for kind in (operation.request, *operation.answers, ErrorBody)]
    types = [kind for kind in dict.fromkeys(mentioned) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    known = dict(zip(types, schemas, strict=True))
    _put_limits(components, limits)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, known, model, needs_key=operation not in keyless)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    schemes = {"bearer": {"type": "http", "scheme": "bearer"}, "header": _api_key_header()}
    secured = len(keyless) < len(operations)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"deploycost endpoint: {model}", "version": version},
        "paths": paths,
        "components": {"schemas": components} | ({"securitySchemes": schemes} if secured else {}),
    }


def _operation(operation: Operation, schemas: dict[type, Any], model: str, needs_key: bool) -> dict[str, Any]:
    refusals = sorted({*operation.refusals, *_ANYWHERE, *((401,) if needs_key else ())})
    media = _TEXT if operation.answers == (str,) else JSON
    told = [schemas[answer] for answer in operation.answers]
    schema = told[0] if len(told) == 1 else {"oneOf": told}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _identifier(operation),
        "responses": {
            "200": {"description": operation.summary, "content": {media: {"schema": schema}, **_behind(operation)}},
            **{str(code): _refusal(code, schemas[ErrorBody]) for code in refusals},
        },
    }
    parameters = [_path_parameter(name, value) for name, value in (("name", model), ("version", "1"))]
    parameters = [parameter for parameter in parameters if "{" + parameter["name"] + "}" in operation.path]
    if operation.request is not None:
        parameters.append(_deadline_header())
        parameters += [_json_length_header()] if operation.binary else []
        body = {JSON: {"schema": schemas[operation.request]}, **_behind(operation)}
        described["requestBody"] = {"required": True, "content": body}
    if parameters:
        described["parameters"] = parameters
    if needs_key:
        described["security"] = [{"bearer": []}, {"header": []}]
    return described


def _behind(operation: Operation) -> dict[str, Any]:
    """How a body is described that goes on behind its JSON."""
    return {_OCTETS: {"schema": {"type": "string", "format": "binary"}}} if operation.binary else {}


def _identifier(operation: Operation) -> str:
    words = operation.path.replace("{", "").replace("}", "").replace(".", "/").split("/")
    return "_".join([operation.method.lower(), *filter(None, words)])


def _refusal(code: int, error: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": _MEANINGS[code], "content": {JSON: {"schema": error}}}
    if code == 503:
        seconds = {"type": "integer", "minimum": 1}
        described["headers"] = {"Retry-After": {"description": "seconds", "schema": seconds}}
    return described


def _path_parameter(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": [value]}}


def _deadline_header() -> dict[str, Any]:
    described = "Milliseconds from now in which the answer is of use; it is refused at once where they cannot do."
    schema = {"type": "integer", "minimum": 1, "maximum": LONGEST_DEADLINE_MS}
    return {"name": "X-Deadline-Ms", "in": "header", "required": False, "description": described, "schema": schema}


def _json_length_header() -> dict[str, Any]:
    described = "Where the JSON of the body ends and the bytes of its tensors begin; without it all of it is JSON."
    schema = {"type": "integer", "minimum": 0}
    name = "Inference-Header-Content-Length"
    return {"name": name, "in": "header", "required": False, "description": described, "schema": schema}


def _api_key_header() -> dict[str, Any]:
    return {"type": "apiKey", "in": "header", "name": "X-API-Key"}


def _put_limits(components: dict[str, Any], limits: Limits) -> None:
    """Write into the schema of `/predict` what no type can say: the limits in force, and one of two fields."""
    schema = components["PredictRequest"]
    schema["oneOf"] = [{"required": ["text"]}, {"required": ["texts"]}]
    schema["properties"]["text"]["maxLength"] = limits.max_text_chars
    schema["properties"]["texts"]["maxItems"] = limits.max_texts
    schema["properties"]["texts"]["items"]["maxLength"] = limits.max_text_chars
