"""Reads server-sent events as the format says: bytes split at line ends alone, events at empty lines."""

import json
from typing import Any

import httpx

from service.openai.schemas import Completion


def events(body: bytes) -> list[str]:
    """The data of each event of a whole stream, which has to end with an event's end."""
    return [data for data, _ in events_and_ids(body)]


def events_and_ids(body: bytes) -> list[tuple[str, str]]:
    """The data of each event and its id, which each has to have."""
    assert body.endswith(b"\n\n")
    found = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        lines = [line for line in block.split("\n") if not line.startswith(":")]  # comments, as on a busy machine
        (id_,) = [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        assert len(data) == len(lines) - 1
        found.append(("\n".join(data), id_))
    return found


def chunks(body: bytes) -> list[dict[str, Any]]:
    """The events before [DONE] as JSON, each checked against the documented shape."""
    *data, done = events(body)
    assert done == "[DONE]"
    parsed = [json.loads(one) for one in data]
    for one in parsed:
        Completion.model_validate(one)
    return parsed


def stream(client: httpx.Client, **fields: Any) -> list[dict[str, Any]]:
    """Ask for a stream and read all of it."""
    response = client.post("/v1/completions", json={**fields, "stream": True})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return chunks(response.content)


def texts(parts: list[dict[str, Any]], n: int = 1) -> list[str]:
    """The text of each choice of a stream, put together."""
    return [
        "".join(choice["text"] for part in parts for choice in part["choices"] if choice["index"] == index)
        for index in range(n)
    ]


def ends(parts: list[dict[str, Any]], n: int = 1) -> list[tuple[str, str | None]]:
    """Why each choice of a stream ended, which it has to say exactly once, and last."""
    found: list[tuple[str, str | None]] = []
    for index in range(n):
        own = [choice for part in parts for choice in part["choices"] if choice["index"] == index]
        assert [choice["finish_reason"] is not None for choice in own] == [False] * (len(own) - 1) + [True]
        found.append((own[-1]["finish_reason"], own[-1]["stop_reason"]))
    return found
