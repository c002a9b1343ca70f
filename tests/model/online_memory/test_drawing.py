"""Texts drawn with the online memory: from its distribution, the same compiled and in Python, from every face."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import unroll
from model.checkpoint import save
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.generate import Piece, generate
from model.online_memory.drawing import RememberingRows
from model.online_memory.memory import OnlineMemory
from model.online_memory.weights import NAME, WEIGHTS, MemoryWeights
from model.sampling.parameters import SamplingParameters
from model.sampling.probabilities import log_probabilities
from model.text.frame import TextFrame
from tests.model.small import small_checkpoint

WEIGHTS_OF = MemoryWeights((0.3,) * WEIGHTS, "for tests")
PLAIN = small_checkpoint()
CHECKPOINT = replace(PLAIN, training={NAME: WEIGHTS_OF.to_json()})
PROMPT = "the cat sat on the mat. " * 8


def drawn(decoder: Decoder, prompt: str = PROMPT, **asked: Any) -> list[Piece]:
    given: dict[str, Any] = {"max_tokens": 60, "parameters": SamplingParameters(seed=3, temperature=0.7)}
    given |= {"memory": WEIGHTS_OF, **asked}
    return list(generate(decoder, CHECKPOINT.tokenizer, prompt, **given))


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_log_probabilities_are_those_that_the_score_of_the_text_has() -> None:
    decoder = Decoder(CHECKPOINT)
    pieces = drawn(decoder, logprobs=2)
    found = [one for piece in pieces for one in piece.logprobs]
    ids = CHECKPOINT.tokenizer.encode(PROMPT).astype(np.int32)
    whole = np.concatenate([ids, [one.token for one in found]]).astype(np.int32)[None]
    scored = decoder.rows(1).score([0], whole[:, :-1], whole[:, 1:], weights=True)
    assert scored.weights is not None
    assert scored.wholes is not None
    distributions = scored.weights[0], scored.wholes[0]
    _, every = OnlineMemory(WEIGHTS_OF).score(whole[0, :-1], whole[0, 1:], *distributions, every=True)
    assert every is not None
    of_drawn = log_probabilities(np.ascontiguousarray(every[-60:][:, decoder.ids]))  # among those seen in training
    columns = np.searchsorted(decoder.ids, whole[0, -60:])
    assert of_drawn[np.arange(60), columns].tolist() == [one.logprob for one in found]
    assert text(pieces) != text(drawn(decoder, memory=None))


@pytest.mark.parametrize("quantization", ["int8"])
def test_compiled_and_in_numpy_it_is_the_same_text(quantization: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = text(drawn(Decoder(CHECKPOINT, quantization)))
    monkeypatch.setattr("model.online_memory.memory._compiled", lambda: None)
    assert text(drawn(Decoder(CHECKPOINT, quantization, processor="numpy"))) == compiled


def test_a_prompt_read_in_pieces_is_the_prompt() -> None:
    decoder, ids = Decoder(CHECKPOINT), np.array([PLAIN.tokenizer.encode(PROMPT)], np.int32)
    states = []
    for cuts in ([], [1, 2, 70, 71]):
        rows = RememberingRows(decoder, OnlineMemory(WEIGHTS_OF))
        for part in np.split(ids, cuts, axis=1):
            rows.read([0], part)
        states.append((rows.state.tolist(), rows._step.every_logits(rows.state).tolist()))
    assert states[0] == states[1]


def test_what_stood_before_comes_again() -> None:
    """At a low temperature a small network of random weights has nothing else to say."""
    again = text(drawn(Decoder(CHECKPOINT), parameters=SamplingParameters(temperature=0)))
    assert again[:40] in PROMPT + PROMPT
    assert text(drawn(Decoder(CHECKPOINT), parameters=SamplingParameters(temperature=0), memory=None)) != again


def test_stop_strings_and_patterns_hold() -> None:
    from model.constraints.compiling import compiled
    from model.constraints.constraint import Constraint
    from model.constraints.vocabulary import Vocabulary

    decoder = Decoder(CHECKPOINT)
    pieces = drawn(decoder, stop=["t"])
    assert pieces[-1].finish_reason == "stop"
    assert "t" not in text(pieces)
    constraint = compiled(Constraint("regex", "[a-m]{20}", "regex"), Vocabulary(CHECKPOINT.tokenizer, decoder.ids))
    matched = drawn(decoder, constraint=constraint)
    assert matched[-1].finish_reason == "stop"
    assert len(text(matched)) == 20
    assert set(text(matched)) <= set("abcdefghijklm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(CHECKPOINT, tmp_path / "model")
    return tmp_path / "model"


def run(*arguments: object) -> Any:
    return CliRunner(env={"COLUMNS": "400"}).invoke(unroll.program, ["generate", *map(str, arguments)])


def test_the_terminal_and_python_draw_the_same_texts(folder: Path) -> None:
    asked = ["--prompt", PROMPT, "--seed", 3, "--temperature", 0.7, "--max-tokens", 60, "--memory"]
    expected = [text(drawn(Decoder(CHECKPOINT), choice=choice)) for choice in range(2)]
    said = json.loads(run(folder, *asked, "--n", 2, "--json").stdout)
    assert [choice["text"] for choice in said["choices"]] == expected
    assert run(folder, *asked, "--no-echo").stdout == expected[0] + "\n"
    model = unroll.load(folder)
    options: dict[str, Any] = {"seed": 3, "temperature": 0.7, "max_tokens": 60, "memory": True}
    assert model.generate(PROMPT, 2, **options) == expected
    assert "".join(model.stream(PROMPT, **options)) == expected[0]


def test_where_there_can_be_no_memory_the_remedy_is_named(folder: Path, tmp_path: Path) -> None:
    for other in (("--beams", 2), ("--count", 2), ("--interactive",)):
        assert "--memory is of single texts" in str(run(folder, "--memory", *other).exception)
    save(PLAIN, tmp_path / "plain")
    save(replace(PLAIN, tokenizer=PLAIN.tokenizer.framed(TextFrame("\n"))), tmp_path / "items")
    for name, remedy in (("plain", "--write-memory"), ("items", "for one long text; leave it out")):
        assert remedy in str(run(tmp_path / name, "--memory").exception)
        with pytest.raises(ParameterError, match=remedy):
            unroll.load(tmp_path / name).generate("a", memory=True)
