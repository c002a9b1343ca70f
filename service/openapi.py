"""The API's description as it is served: exact where FastAPI rounds, and with the limits of the model at hand."""

from collections.abc import Callable
from typing import Any

from service.schemas import LARGEST_ID
from service.score_schemas import Progress

ONLY_IN_STREAMS = (Progress,)  # answers of no route of their own, so that FastAPI does not describe them
EXACT = 2.0**53  # floats above it stand for several whole numbers


def described(describe: Callable[[], dict[str, Any]], vocabulary: int) -> Callable[[], dict[str, Any]]:
    """A function that gives what `describe` gives, put right; FastAPI keeps the result and asks once."""

    def exactly() -> dict[str, Any]:
        document = describe()
        for kind in ONLY_IN_STREAMS:
            document["components"]["schemas"].setdefault(kind.__name__, kind.model_json_schema())
        _limits(document, vocabulary)
        for path in document["paths"].values():
            for operation in path.values():
                _answers(operation["responses"])
        return document

    return exactly


def _limits(part: Any, vocabulary: int) -> None:
    """Make limits of whole numbers whole again, and those of ids the vocabulary's."""
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _limits(inner, vocabulary)
    if not isinstance(part, dict) or part.get("type") != "integer":
        return
    for name in ("minimum", "maximum", "exclusiveMinimum"):
        limit = part.get(name)
        if isinstance(limit, float):  # 2⁶⁴ - 1 had become 2⁶⁴
            part[name] = int(limit) - 1 if limit > EXACT else int(limit)
    if part.get("maximum") == LARGEST_ID:
        part["maximum"] = vocabulary - 1


def _answers(responses: dict[str, Any]) -> None:
    """Errors come as JSON also where texts come as events."""
    for status, response in responses.items():
        content = response.get("content", {})
        if status != "200" and "text/event-stream" in content:
            content["application/json"] = content.pop("text/event-stream")
