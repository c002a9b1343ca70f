"""LitServe with the loop of the tutorials: nn.LSTM step by step, softmax, multinomial, an event a character.

Run with the package `litserve` on the path: `python -m tests.benchmarks.peer_litserve PORT`.
"""

import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from model.checkpoint import BUNDLED, load
from tests.benchmarks.tutorial import one_torch_thread, tutorial_step

litserve: Any = importlib.import_module("litserve")  # installed for this alone, beside the repository


class Loop(litserve.LitAPI):  # type: ignore[misc]
    """The bundled model as a tutorial would serve it, in the shape of OpenAI's completions."""

    def setup(self, _device: str) -> None:
        """Load the weights."""
        self.step = tutorial_step(load(BUNDLED), 1)

    def decode_request(self, request: dict[str, Any]) -> int:
        """How many characters are asked for."""
        return int(request["max_tokens"])

    def predict(self, count: int) -> Iterator[str]:
        """Draw them one by one; which they are costs nothing that matters here."""
        with one_torch_thread():
            for _ in range(count):
                self.step()
                yield "a"

    def encode_response(self, output: Iterator[str]) -> Any:  # LitServe takes what is named here for a shape of JSON
        """An event a character."""
        written = 0
        for character in output:
            written += 1
            yield f"data: {json.dumps({'choices': [{'text': character}]})}\n\n"
        yield f'data: {{"usage":{{"completion_tokens":{written}}}}}\n\n'
        yield "data: [DONE]\n\n"


def main() -> None:
    """Serve on one worker until the process is ended."""
    server = litserve.LitServer(
        Loop(stream=True, api_path="/v1/completions"), accelerator="cpu", timeout=False, fast_queue=True
    )
    port = int(sys.argv[1])
    server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="warning", num_api_servers=1)


if __name__ == "__main__":
    main()
