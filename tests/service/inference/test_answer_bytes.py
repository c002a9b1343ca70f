"""Bytes of a whole answer are known from counts, never fewer than it has, and refused where they are too many."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.service.error_cases import check
from tests.service.serving import Running, serving

COMPLETIONS, GENERATE = "/v1/completions", "/generate"
CONTROL = "\x01\x02\x03\x04"
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "texts": (COMPLETIONS, {"prompt": ["a", "b"], "n": 8, "max_tokens": 300}),
    "echoes of control characters": (COMPLETIONS, {"prompt": CONTROL * 500, "n": 4, "max_tokens": 1, "echo": True}),
    "logprobs": (COMPLETIONS, {"prompt": "a", "n": 4, "max_tokens": 200, "logprobs": 0}),
    "the likeliest": (COMPLETIONS, {"prompt": "a", "max_tokens": 200, "logprobs": 100}),
    "a scored echo": (COMPLETIONS, {"prompt": "\u00e9" * 300, "n": 2, "max_tokens": 0, "echo": True, "logprobs": 20}),
    "details": (
        GENERATE,
        {
            "inputs": CONTROL * 50,
            "parameters": {
                "max_new_tokens": 200,
                "details": True,
                "decoder_input_details": True,
                "return_full_text": True,
                "top_n_tokens": 5,
            },
        },
    ),
}


@pytest.fixture(scope="module")
def strict(checkpoint_folder: Path) -> Iterator[Running]:
    with serving(Settings(checkpoint=checkpoint_folder, max_answer_bytes=1_000)) as running:
        yield running


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_has_no_more_bytes_than_were_counted(name: str, strict: Running, server: Running) -> None:
    path, fields = ANSWERS[name]
    refused = strict.client.post(path, json=fields)
    assert refused.status_code in {400, 422}
    counted = re.search(r"may take ([\d,]+) bytes; this server's max_answer_bytes is 1,000: stream it", refused.text)
    assert counted is not None, refused.text
    answer = server.client.post(path, json=fields)
    assert answer.status_code == 200
    assert len(answer.content) <= int(counted[1].replace(",", ""))


def test_a_stream_and_a_small_answer_have_no_such_limit(strict: Running) -> None:
    fields = {"prompt": "a", "max_tokens": 20, "seed": 1}
    whole = strict.complete(**fields)["choices"][0]["text"]
    assert check(strict.client.post(COMPLETIONS, json={**fields, "max_tokens": 100}), 400)["param"] == "stream"
    streamed = strict.client.post(COMPLETIONS, json={**fields, "max_tokens": 1_000, "stream": True})
    assert streamed.status_code == 200
    assert len(whole) == 20
