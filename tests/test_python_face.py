"""`import unroll`: the same bytes and figures as the server's, and the example of the page runs."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unroll
from model.errors import CheckpointError, ParameterError, UnrollError
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


def test_loading_is_bounded_as_it_is_on_the_command_line(checkpoint_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="with max_model_bytes"):
        unroll.load(max_model_bytes=1 << 20)
    with pytest.raises(ParameterError, match="max_model_bytes is 0; choose a whole number from 1048576 up"):
        unroll.load(checkpoint_folder, max_model_bytes=0)
    assert unroll.load(checkpoint_folder, max_model_bytes=1 << 30).digest


def test_the_likeliest_texts_are_the_server_s(server: Running, checkpoint_folder: Path) -> None:
    body = {"prompt": "the 月", "n": 2, "best_of": 6, "max_tokens": 30, "use_beam_search": True, "length_penalty": 0.5}
    choices = server.client.post("/v1/completions", json=body).raise_for_status().json()["choices"]
    model = unroll.load(checkpoint_folder)
    texts = model.beam_search("the 月", beams=6, n=2, max_tokens=30, length_penalty=0.5)
    assert texts == [choice["text"] for choice in choices]
    with pytest.raises(ParameterError, match="beams is 0; choose"):
        model.beam_search(beams=0)


MATCHES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"regex": "[a-h]{3,9}"}, {"guided_regex": "[a-h]{3,9}"}),
    ({"choice": ["the cat", "a hat"]}, {"guided_choice": ["the cat", "a hat"]}),
    ({"grammar": 'start: "a" start? "b"'}, {"guided_grammar": 'start: "a" start? "b"'}),
    ({"json_schema": {"const": 11}, "regex": None}, {"guided_json": '{"const":11}'}),
    ({"allowed_token_ids": np.array([300, 301])}, {"allowed_token_ids": [300, 301]}),
    ({"bad_words": ["a", "th"]}, {"bad_words": ["a", "th"]}),
    ({"json_object": False}, {}),
    ({"json_schema": {}}, {"guided_json": {}}),
    ({"json_schema": {}}, {"guided_json": True}),
    ({"json_schema": "true"}, {"json_schema": True}),
    ({"json_schema": {}}, {"structured_outputs": {"json": True}}),
    ({"json_schema": "false"}, {"guided_json": False}),
    ({"bad_words": []}, {"bad_words": []}),
    ({"regex": ""}, {"guided_regex": ""}),
    ({"grammar": ""}, {"guided_grammar": ""}),
    ({"grammar": "root ::= "}, {"grammar": "root ::= "}),
    ({"grammar": 'root ::= "Ω"'}, {"grammar": 'root ::= "Ω"'}),
]


@pytest.mark.parametrize(("ours", "theirs"), MATCHES, ids=str)
def test_texts_that_must_match_are_the_server_s(
    server: Running, checkpoint_folder: Path, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    body = {"prompt": "the ", "n": 3, "seed": 5, "max_tokens": 40, **theirs}
    answer = server.client.post("/v1/completions", json=body)
    model = unroll.load(checkpoint_folder)
    if answer.status_code != 200:
        with pytest.raises(ParameterError) as error:
            model.generate("the ", n=3, seed=5, max_tokens=40, **ours)
        reason = str(error.value).partition(" ")[2]
        assert reason == answer.json()["error"]["message"].partition(" ")[2]
        return
    texts = model.generate("the ", n=3, seed=5, max_tokens=40, **ours)
    assert texts == [choice["text"] for choice in answer.json()["choices"]]
    assert "".join(model.stream("the ", seed=5, max_tokens=40, **ours)) == texts[0]


def test_scores_are_the_server_s(server: Running, checkpoint_folder: Path) -> None:
    lines = ["the cat", "", "Ωé😀", "a" * 500]
    body = {"texts": lines, "context": "once\n"}
    results = server.client.post("/v1/score", json=body).raise_for_status().json()["results"]
    scores = unroll.load(checkpoint_folder).score(lines, context="once\n")
    assert scores.bits.tolist() == [one["bits"] for one in results]
    assert scores.characters.tolist() == [7, 0, 3, 500]
    assert np.isnan(scores.bits_per_character).tolist() == [False, True, False, False]
    assert np.isnan(scores.percentile).all()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ["a", "b"]}, r"^prompt is \['a', 'b'\]; give one text\."),
    ({"prompt": None}, "^prompt is None; give one text"),
    ({"max_tokens": "5"}, "^max_tokens is '5'; choose a whole number from 0 up"),
    ({"max_tokens": -1}, "^max_tokens is -1; choose"),
    ({"stop": 3}, "^stop is 3; give a text, or a list of texts"),
    ({"stop": ["a", 3]}, r"^stop is \['a', 3\]; give"),
    ({"seed": 1.5}, "^seed is 1.5; choose a whole number"),
    ({"temperature": "hot"}, "^temperature is 'hot'; choose a number from 0 to 100"),
    ({"top_k": 2.5}, "^top_k is 2.5; choose a whole number"),
    ({"logit_bias": {"zz": 3}}, "^logit_bias names 'zz'; name ids"),
    ({"logit_bias": {300: "much"}}, "^logit_bias of id 300 is 'much'; choose"),
    ({"logit_bias": 3}, "^logit_bias gives a number to each id"),
    ({"regex": "a("}, "^regex is no regular expression at character 2: unclosed group"),
    ({"regex": 5}, "^regex is not a string; give one"),
    ({"choice": []}, "^choice is not a list of texts; send at least one, none of them empty"),
    ({"json_schema": ""}, "^json_schema is no JSON at its end: a value is missing"),
    ({"choice": "yes"}, "^choice is not a list; give one, even for one value"),
    ({"choice": 5}, "^choice is not a list of plain values"),
    ({"json_schema": [1]}, "^json_schema is neither a dictionary nor the text of one"),
    ({"json_schema": {"const": np.zeros(2)}}, "^json_schema is not JSON .*; give plain JSON values"),
    ({"json_object": 1}, "^json_object is neither True nor False"),
    ({"regex": "a", "choice": ["b"]}, "^choice and regex both constrain the text; give only one of them"),
    ({"regx": "a"}, r"^There is no parameter regx; did you mean regex\?$"),
    ({"regex": "[ab]{9}", "max_tokens": 8}, "^max_tokens is 8; the shortest text that matches has 9"),
    ({"temprature": 1}, r"^There is no parameter temprature; did you mean temperature\?$"),
    ({"zzz": 1}, "^There is no parameter zzz; there are: .*temperature"),
]


@pytest.mark.parametrize(("given", "sentence"), WRONG)
def test_a_wrong_argument_is_refused_in_a_sentence(
    checkpoint_folder: Path, given: dict[str, Any], sentence: str
) -> None:
    model = unroll.load(checkpoint_folder)
    for function in (model.generate, model.stream):
        with pytest.raises(ParameterError, match=sentence):
            function(**given)


def test_what_is_wrong_is_said(checkpoint_folder: Path) -> None:
    model = unroll.load(checkpoint_folder)
    with pytest.raises(unroll.UnrollError, match="There is no checkpoint folder at nowhere"):
        unroll.load("nowhere")
    for n in (0, 2.5, "2", None):
        with pytest.raises(ParameterError, match=r"^n is .*; choose a whole number from 1 up"):
            model.generate("a", n=n)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="give a list of texts"):
        model.score("a line")
    for lines in ([1], 5, None):
        with pytest.raises(ParameterError, match="give a list of texts"):
            model.score(lines)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"^path is 3; give a checkpoint folder's path"):
        unroll.load(3)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"^threads is 0; choose a whole number from 1 up"):
        unroll.load(checkpoint_folder, threads=0)
    with pytest.raises(ParameterError, match=r"There is no option layer; there are: .*layers"):
        unroll.train("corpus.txt", layer=2)


def test_numbers_of_numpy_are_numbers(checkpoint_folder: Path) -> None:
    model = unroll.load(checkpoint_folder)
    texts = model.generate(n=2, seed=3, max_tokens=5, temperature=0.5, top_k=4, logit_bias={300: 1.0})
    assert texts == model.generate(
        n=np.int64(2),  # type: ignore[arg-type]
        seed=np.int64(3),  # type: ignore[arg-type]
        max_tokens=np.int32(5),  # type: ignore[arg-type]
        temperature=np.float32(0.5),
        top_k=np.int64(4),
        logit_bias={np.int64(300): np.float64(1)},
    )


def test_scores_become_a_table_where_pandas_is(checkpoint_folder: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed, and nothing here needs it")
    scores = unroll.load(checkpoint_folder).score(["the cat", "", "Ωé😀"])
    frame = scores.frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["characters", "bits", "bits_per_character", "percentile"]
    assert frame["bits"].tolist() == scores.bits.tolist()
    assert frame["bits_per_character"].isna().tolist() == [False, True, False]
    assert frame["characters"].tolist() == [7, 0, 3]


def test_a_table_needs_pandas(checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = unroll.load(checkpoint_folder).score(["the cat"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UnrollError, match=r"needs pandas.*`pip install pandas`"):
        scores.frame()


def test_a_model_shows_what_it_is(checkpoint_folder: Path) -> None:
    model = unroll.load(checkpoint_folder)
    parameters = model.checkpoint.config.parameters()
    assert model.digest is not None
    assert repr(model) == f"<LanguageModel {checkpoint_folder}, {parameters:,} parameters, digest {model.digest[:16]}>"


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
