"""`import unroll`: the same bytes and figures as the server's, and the example of the page runs."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import unroll
from model.errors import ParameterError
from service.settings import Settings
from tests.service.serving import Running, serving

ROOT = Path(__file__).parents[1]
PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text("utf-8"), re.S)


@pytest.fixture(scope="module")
def server(checkpoint_folder: Path) -> Iterator[Running]:
    with serving(Settings(checkpoint=checkpoint_folder)) as running:
        yield running


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5, "top_k": 5, "stop": ["e ", "\n"]}])
def test_texts_are_the_server_s(server: Running, checkpoint_folder: Path, settings: dict[str, object]) -> None:
    body = {"prompt": "the 月", "n": 4, "seed": 11, "max_tokens": 70, **settings}
    choices = server.client.post("/v1/completions", json=body).raise_for_status().json()["choices"]
    model = unroll.load(checkpoint_folder, threads=2)
    texts = model.generate("the 月", n=4, seed=11, max_tokens=70, **settings)  # type: ignore[arg-type]
    assert texts == [choice["text"] for choice in choices]
    pieces = list(model.stream("the 月", seed=11, max_tokens=70, **settings))  # type: ignore[arg-type]
    assert "".join(pieces) == texts[0]
    assert len(pieces) > 1


def test_scores_are_the_server_s(server: Running, checkpoint_folder: Path) -> None:
    lines = ["the cat", "", "Ωé😀", "a" * 500]
    body = {"texts": lines, "context": "once\n"}
    results = server.client.post("/v1/score", json=body).raise_for_status().json()["results"]
    scores = unroll.load(checkpoint_folder).score(lines, context="once\n")
    assert scores.bits.tolist() == [one["bits"] for one in results]
    assert scores.characters.tolist() == [7, 0, 3, 500]
    assert np.isnan(scores.bits_per_character).tolist() == [False, True, False, False]
    assert np.isnan(scores.percentile).all()


def test_what_is_wrong_is_said(checkpoint_folder: Path) -> None:
    model = unroll.load(checkpoint_folder)
    with pytest.raises(ParameterError, match=r"temprature.*there are: .*temperature"):
        model.generate("a", temprature=1)
    with pytest.raises(ParameterError, match="give a list of texts"):
        model.score("a line")
    with pytest.raises(ParameterError, match=r"There is no option layer; there are: .*layers"):
        unroll.train("corpus.txt", layer=2)


def test_a_model_is_trained(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on the mat. " * 400)
    model = unroll.train(corpus, epochs=1, layers=1, hidden=16, embedding=8, seed=3, out=tmp_path / "run", quiet=True)
    assert model.checkpoint.config.hidden == 16
    assert model.generate(seed=1, max_tokens=9) == unroll.load(tmp_path / "run").generate(seed=1, max_tokens=9)


def test_the_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAMS[0]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("ROMEO: ") == 3
    usual, odd = re.findall(r"([\d.]+) bits per character, percentile ([\d.]+)", done.stdout)
    assert float(usual[0]) < float(odd[0])
    assert float(usual[1]) < float(odd[1])
