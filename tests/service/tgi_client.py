"""Asks a server in the dialect of text-generation-inference, and checks the shape of whatever it answers."""

import json
from typing import Any

from service.tgi.schemas import Generated, StreamEvent
from tests.service.serving import Running


def generate(server: Running, inputs: str, **parameters: Any) -> Any:
    """The answer of /generate."""
    response = server.client.post("/generate", json={"inputs": inputs, "parameters": parameters})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert Generated.model_validate(answer).model_dump(exclude_unset=True) == answer
    return answer


def stream_events(body: bytes) -> list[Any]:
    """The data of each event of a whole stream, comments left out."""
    assert body.endswith(b"\n\n")
    blocks = body.decode().replace(": keep-alive\n", "").removesuffix("\n\n").split("\n\n")
    lines = [block.split("\n") for block in blocks]
    assert all(data.startswith("data:{") and id_.startswith("id: ") for data, id_ in lines)
    return [json.loads(data.removeprefix("data:")) for data, _ in lines]


def generate_stream(server: Running, inputs: str, **parameters: Any) -> list[Any]:
    """The events of /generate_stream: one for each token, of which the last alone has the whole text."""
    response = server.client.post("/generate_stream", json={"inputs": inputs, "parameters": parameters})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    found = stream_events(response.content)
    for at, event in enumerate(found, 1):
        assert StreamEvent.model_validate(event).model_dump(exclude_unset=True) == event
        assert event["index"] == at
        assert (event["generated_text"] is not None) == (at == len(found))
    return found


def joined(tokens: list[Any]) -> str:
    """The texts of some tokens, put together."""
    return "".join(token["text"] for token in tokens)
