"""Scores with the online memory: those the evaluation has, of one text alone, also beside other requests."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import Checkpoint, save
from model.decoding.decoder import Decoder
from model.online_memory.weights import NAME, MemoryWeights
from model.text.frame import TextFrame
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.serving import Running, serving
from training.evaluation.online_memory import Memories, decoder_distributions, remembering
from training.evaluation.protocols import carried

TEXT = "the cat sat on the mat, the dog sat on the cat. " * 5
WEIGHTS = MemoryWeights(protocol="a test")
CHECKPOINT = replace(small_checkpoint(), training={NAME: WEIGHTS.to_json()})


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of a checkpoint that has weights for the memory."""
    with serving(Settings(checkpoint=saved(tmp_path_factory, CHECKPOINT), max_rows=8)) as running:
        yield running


def saved(folders: pytest.TempPathFactory, checkpoint: Checkpoint) -> Path:
    folder = folders.mktemp("scored") / "small"
    save(checkpoint, folder)
    return folder


def score(server: Running, texts: str | list[str], **fields: Any) -> dict[str, Any]:
    response = server.client.post("/v1/score", json={"texts": texts, "memory": True, **fields})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def bits(server: Running, texts: str | list[str], **fields: Any) -> list[float]:
    return [result["bits"] for result in score(server, texts, **fields)["results"]]


def test_a_text_s_bits_are_those_of_the_evaluation(scorer: Running) -> None:
    ids = CHECKPOINT.tokenizer.encode("\n" + TEXT)
    read = remembering(decoder_distributions(Decoder(CHECKPOINT, "int8")), Memories(WEIGHTS))
    (found,) = bits(scorer, TEXT)
    assert found == pytest.approx(carried(read, ids, 1).nats / math.log(2), rel=1e-6)
    assert found < bits(scorer, TEXT, memory=False)[0] / 2


def test_a_text_costs_the_same_alone_among_others_and_again(scorer: Running) -> None:
    texts = [TEXT, TEXT, "the cat", TEXT[7:], "", "a quick brown fox"]
    together = bits(scorer, texts)
    assert together == [bits(scorer, text)[0] for text in texts] == bits(scorer, texts)
    assert together[0] == together[1]
    assert score(scorer, texts)["memory"] is True
    assert "memory" not in score(scorer, texts, memory=False)


def test_the_context_is_remembered_though_the_cache_knows_it(scorer: Running) -> None:
    context = TEXT * 4
    without = bits(scorer, "the cat sat", context=context, memory=False)
    known = bits(scorer, "the cat sat", context=context)
    assert known == bits(scorer, "the cat sat", context=context)
    assert known[0] < without[0] / 2
    assert bits(scorer, "the cat sat", context=context, memory=False) == without


def test_details_add_up_to_the_text(scorer: Running) -> None:
    (found,) = score(scorer, TEXT, top_logprobs=3)["results"]
    assert found["bits"] == bits(scorer, TEXT)[0]
    assert sum(one["bits"] for one in found["details"]) == pytest.approx(found["bits"], rel=1e-5)
    late = found["details"][150]
    assert late["rank"] == 1
    assert late["alternatives"][0]["character"] == late["character"]
    assert late["alternatives"][0]["probability"] == pytest.approx(2 ** -late["bits"], rel=1e-4)
    assert sum(one["probability"] for one in late["alternatives"]) <= 1


def test_lines_with_a_memory_have_the_same_scores(scorer: Running) -> None:
    """Beside lines without, and after a context."""
    lines: list[dict[str, Any]] = [
        *({"text": TEXT[at : at + 60], "memory": at % 3 != 0} for at in range(100)),
        {"text": TEXT, "memory": True, "context": TEXT},
        {"text": TEXT, "context": TEXT},
    ]
    content = "".join(f"{json.dumps(line)}\n" for line in lines)
    response = scorer.client.post("/v1/score", content=content, headers={"content-type": "application/x-ndjson"})
    found = [json.loads(line)["bits"] for line in response.text.splitlines()]
    expected = [
        bits(scorer, line["text"], memory=bool(line.get("memory")), context=line.get("context", ""))[0]
        for line in lines
    ]
    assert found == expected
    assert found[-2] < found[-1] / 2


def test_a_state_carries_no_memory(scorer: Running) -> None:
    token = score(scorer, TEXT, return_state=True)["results"][0]["state"]
    plain = score(scorer, TEXT, return_state=True, memory=False)["results"][0]["state"]
    assert bits(scorer, TEXT, state=token) == bits(scorer, TEXT, state=plain)


@pytest.mark.parametrize(("separator", "remedy"), [("", "--write-memory"), ("\n", "for one long text; leave it out")])
def test_a_checkpoint_without_weights_names_the_remedy(
    separator: str, remedy: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = small_checkpoint()
    checkpoint = replace(plain, tokenizer=plain.tokenizer.framed(TextFrame(separator)))
    with serving(Settings(checkpoint=saved(tmp_path_factory, checkpoint))) as running:
        response = running.client.post("/v1/score", json={"texts": "a", "memory": True})
        lines = running.client.post(
            "/v1/score",
            content='{"text": "a", "memory": true}\n"b"\n',
            headers={"content-type": "application/x-ndjson"},
        )
    assert response.status_code == 400
    assert remedy in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == "memory"
    wrong, right = map(json.loads, lines.text.splitlines())
    assert wrong["error"]["param"] == "memory"
    assert remedy in wrong["error"]["message"]
    assert right["index"] == 0
