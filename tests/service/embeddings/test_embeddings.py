"""Embeddings: the vectors of the Python face, alone and in a crowd, in OpenAI's shape."""

import base64
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from model.language_model import LanguageModel
from service.embeddings.schemas import Embeddings
from service.settings import Settings
from tests.service.error_cases import check
from tests.service.serving import Reference, Running, eventually, serving

PATH = "/v1/embeddings"
TEXTS = ["the cat", "", "é月😀Ω", "a", "to be or not to be " * 60, "the cat"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"pooling": "mean"},
    {"layer": 0, "part": "cell"},
    {"layer": "all", "normalised": False},
    {"pooling": "mean", "layer": "all", "part": "cell", "normalised": False},
]


NO_TEXTS: list[Any] = [1, [], {}, [1.5], ["a", 1], [[]], [[1], "a"], [True], [None]]


def embed(server: Running, inputs: Any, **fields: Any) -> Any:
    response = server.client.post(PATH, json={"input": inputs, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def vectors(server: Running, inputs: Any, **fields: Any) -> np.ndarray[Any, Any]:
    """The vectors of an answer, of either encoding."""
    data = embed(server, inputs, **fields)["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    if fields.get("encoding_format") == "base64":
        return np.array([np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in data])
    return np.array([one["embedding"] for one in data], np.float32)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_p_vectors_are_those_of_python_alone_and_together(
    options: dict[str, Any], server: Running, reference: Reference
) -> None:
    own = {**options, "layer": None} if options.get("layer") == "all" else options
    expected = LanguageModel(reference.checkpoint).embed(TEXTS, **own)
    assert np.array_equal(vectors(server, TEXTS, **options), expected)
    assert np.array_equal(vectors(server, TEXTS, **options, encoding_format="base64"), expected)
    for text, vector in zip(TEXTS, expected, strict=True):
        assert np.array_equal(vectors(server, text, **options)[0], vector)
        ids = reference.checkpoint.tokenizer.encode(text).tolist()
        if ids:
            assert np.array_equal(vectors(server, ids, **options)[0], vector)
            assert np.array_equal(vectors(server, [[5, 6], ids], **options)[1], vector)


def test_p_a_crowd_changes_no_vector_and_no_text(server: Running) -> None:
    alone = vectors(server, TEXTS, pooling="mean"), server.complete("abc", seed=1, max_tokens=300)["choices"]
    wrong: list[str] = []

    def ask(number: int) -> None:
        if number % 2 and not np.array_equal(vectors(server, TEXTS, pooling="mean"), alone[0]):
            wrong.append("vectors")
        if not number % 2 and server.complete("abc", seed=1, max_tokens=300)["choices"] != alone[1]:
            wrong.append("text")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_answer_has_the_documented_shape_and_counts(server: Running) -> None:
    entry, _ = server.registry.find(None)
    before = entry.counts.embedded, entry.counts.embedded_tokens
    answer = embed(server, ["abc", "é月"], user="x", model="small")
    assert Embeddings.model_validate(answer).model_dump() == answer
    assert answer["model"] == "small"
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert (entry.counts.embedded, entry.counts.embedded_tokens) == (before[0] + 2, before[1] + 5)
    metrics = server.client.get("/metrics").text
    assert f'unroll_model_embeddings_total{{model="small"}} {entry.counts.embedded:.1f}' in metrics
    response = server.client.post(PATH, json={"input": "a", "dimensions": None, "mood": 1})
    assert response.headers["X-Unroll-Ignored-Fields"] == "mood"


def test_fewer_dimensions_are_the_first_ones_of_length_one(server: Running) -> None:
    whole = vectors(server, ["abc", "de"], normalised=False)
    assert np.array_equal(vectors(server, ["abc", "de"], normalised=False, dimensions=5), whole[:, :5])
    cut = vectors(server, ["abc", "de"], dimensions=5)
    assert cut == pytest.approx(whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1, keepdims=True), abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "param", "why"),
    [
        ({}, "input", "input: it is required"),
        *[({"input": one}, "input", "send a text, a list of texts") for one in NO_TEXTS],
        ({"input": "\ud800"}, "input", "half of a surrogate pair"),
        ({"input": ["a"] * 2049}, "input", "there are 2049 texts"),
        ({"input": [[5000]]}, "input", "has the id 5000"),
        ({"input": "a" * 20_001}, "input", "send at most 20,000"),
        ({"input": "a", "layer": 2}, "layer", "this network's are 0 to 1"),
        ({"input": "a", "layer": "top"}, "layer", "send a number"),
        ({"input": "a", "layer": 16}, "layer", "send a number"),
        ({"input": "a", "part": "gate"}, "part", "hidden"),
        ({"input": "a", "pooling": "max"}, "pooling", "last"),
        ({"input": "a", "dimensions": 0}, "dimensions", "send 1 or more"),
        ({"input": "a", "dimensions": 25}, "dimensions", "these vectors have 24 numbers"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "base64"),
        ({"input": "a", "normalised": 1}, "normalised", "send true or false"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_embedded_is_refused(fields: dict[str, Any], param: str, why: str, server: Running) -> None:
    content = json.dumps(fields)
    error = check(server.client.post(PATH, content=content, headers={"content-type": "application/json"}), 400)
    assert (error["param"], why in error["message"]) == (param, True), error


def test_what_it_costs_is_counted_before_it_is_made(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder, memory_budget_bytes=4 << 20, max_work=100_000)) as running:
        assert check(running.client.post(PATH, json={"input": "明" * 90_000}), 413)["code"] == "too_costly"
        message = check(running.client.post(PATH, json={"input": ["a" * 50] * 2048}), 400)["message"]
        assert message.startswith("This would read and write 151,552 characters and numbers")
        assert eventually(lambda: running.ledger.held == 0)
        assert vectors(running, "abc").shape == (1, 24)


def test_a_client_that_leaves_and_a_deadline_end_the_work(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, deadline_seconds=0.2, max_work=100_000_000)
    with serving(settings) as running:
        body = {"input": ["abc" * 20_000] * 30, "pooling": "mean"}
        assert check(running.client.post(PATH, json=body), 504)["code"] == "deadline_exceeded"
        assert vectors(running, "abc").shape == (1, 24)
        assert eventually(lambda: running.engine.background.waiting == 0)


def test_openais_client_decodes_vectors(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
        answer = client.embeddings.create(model="small", input=["abc", "de"])
        floats = client.embeddings.create(model="small", input=["abc", "de"], encoding_format="float")
        for one, other in zip(answer.data, floats.data, strict=True):
            assert one.embedding == other.embedding
