"""`unroll train --label`: one model of several corpora writes items of the label that is asked for, on every path."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import unroll
from model.checkpoint import load
from model.errors import ParameterError
from service.settings import Settings
from tests.service.serving import Running, serving

LANGUAGES = {  # syllables of each; all have the same letters
    "ka": ("ka", "ko"),
    "ak": ("ak", "ok"),
    "ta": ("ta", "to"),
    "at": ("at", "ot"),
    "kt": ("kat", "kot"),
    "tk": ("tak", "tok"),
}
QUICK = ["--layers", "1", "--hidden", "32", "--embedding", "8", "--precision", "fp32", "--batch-size", "8", "--epochs"]


def run(*words: Any) -> str:
    result = CliRunner().invoke(unroll.make_program(), [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def is_of(language: str, word: str) -> bool:
    """Whether a word of two syllables at least is made of those of a language, the last of which may be cut."""
    size = len(LANGUAGES[language][0])
    parts = [word[at : at + size] for at in range(0, len(word), size)]
    return len(parts) > 2 and all(any(syllable.startswith(part) for syllable in LANGUAGES[language]) for part in parts)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, chance = tmp_path_factory.mktemp("labels"), random.Random(1)
    for name, syllables in LANGUAGES.items():
        lines = ["".join(chance.choices(syllables, k=chance.randint(3, 6))) for _ in range(150)]
        (folder / f"{name}.txt").write_text("\n".join(lines))
    corpus = [folder / f"{name}.txt" for name in LANGUAGES]
    output = run("train", *corpus, "--label", "file-name", *QUICK, "25", "--out", folder / "run")
    assert "6: ak, at, ka, kt, ta, tk" in " ".join(output.split())
    return folder


def test_a_language_each_from_the_command_from_python_and_over_http(trained: Path) -> None:
    best = trained / "run" / "best"
    assert load(best).tokenizer.frame.labels == tuple(sorted(LANGUAGES))
    model = unroll.load(best)
    with serving(Settings(checkpoint=best)) as running:
        for name in LANGUAGES:
            words = model.generate(label=name, n=16, seed=3, temperature=0.5)
            assert sum(is_of(name, word) for word in words) >= 15, (name, words)
            assert of_server(running, name) == words
            assert of_generate(running, "", label=name) == of_generate(running, f"{name}|")
            listed = run("generate", best, "--label", name, "--count", "16", "--seed", "3", "--temperature", "0.5")
            assert listed.splitlines() == words
        assert "".join(model.stream("k", label="ka", seed=3)) == model.generate("k", label="ka", seed=3)[0]
        asked = {"prompt": "ka", "label": "ka", "seed": 4, "temperature": 0, "echo": True}
        text, ids = (running.complete(**asked, **more)["choices"][0]["text"] for more in ({}, {"logprobs": 1}))
        assert text == ids
        assert text.startswith("ka|ka")
        encoded = load(best).tokenizer.encode("ka").tolist()
        assert running.complete(**{**asked, "prompt": encoded})["choices"][0]["text"] == text
        assert of_generate(running, "kako", label="ka", truncate=2) == of_generate(running, "ka|ko")
        full = of_generate(running, "ko", label="ka", return_full_text=True)
        assert full == f"ko{of_generate(running, 'ka|ko')}"
        unknown = running.client.post("/generate", json={"inputs": "", "parameters": {"label": "kaa"}})
        assert unknown.status_code == 422
        assert "did you mean ka?" in unknown.json()["error"]
        refused = running.client.post("/v1/completions", json={"prompt": "", "label": "kaa"})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "label"
        assert "did you mean ka?" in refused.json()["error"]["message"]


def of_generate(running: Running, inputs: str, **parameters: Any) -> str:
    body = {"inputs": inputs, "parameters": {"seed": 3, "temperature": 0.5, **parameters}}
    answer = running.client.post("/generate", json=body).raise_for_status().json()
    return str(answer["generated_text"])


def of_server(running: Running, label: str) -> list[str]:
    asked = {"label": label, "n": 16, "seed": 3, "temperature": 0.5, "max_tokens": 500}
    choices = running.complete("", **asked)["choices"]
    assert {choice["finish_reason"] for choice in choices} == {"stop"}
    return [choice["text"] for choice in choices]


def test_what_is_shown_and_what_is_new_are_without_the_label(trained: Path) -> None:
    best = trained / "run" / "best"
    common = ["generate", best, "--label", "ta", "--seed", "5", "--temperature", "0.7"]
    answer = json.loads(run(*common, "--prompt", "to", "--json"))
    assert (answer["prompt"], answer["label"]) == ("to", "ta")
    assert run(*common, "--prompt", "to") == f"to{answer['choices'][0]['text']}\n"
    assert run(*common, "--prompt", "to", "--no-echo") == f"{answer['choices'][0]['text']}\n"
    listed = run(*common, "--count", "100").splitlines()
    (trained / "old.txt").write_text("".join(f"ta|{word}\n" for word in listed[::2]))
    new = run(*common, "--count", "30", "--novel-to", trained / "old.txt").splitlines()
    kept = [word for word in listed if word not in set(listed[::2])]
    assert kept
    assert len(new) == 30
    assert new[: len(kept)] == kept[:30]
    assert not set(new) & set(listed[::2])


def test_a_prefix_is_a_label_too_and_new_ones_join_those_of_the_base(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("zz|kakaka\nzz|kokoko\n")
    base, more = trained / "run" / "best", ["--epochs", "2", "--out", tmp_path / "run"]
    run("train", tmp_path / "list.txt", "--label", "prefix", "--from", base, *more)
    assert load(tmp_path / "run" / "best").tokenizer.frame.labels == tuple(sorted([*LANGUAGES, "zz"]))
    info = run("info", tmp_path / "run" / "best")
    assert "7: ak, at, ka" in info


def test_evaluate_labels_items_as_training_did(trained: Path) -> None:
    corpus = [trained / f"{name}.txt" for name in LANGUAGES]
    common = ["evaluate", trained / "run", *corpus, "--split", "90/5/5", "--json", "--label"]
    figures = load(trained / "run" / "best").training["figures"]["test"]
    assert json.loads(run(*common, "file-name"))["parts"]["test"]["bits_per_item"] == pytest.approx(
        figures["bits_per_item"], abs=0.01
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "x.txt", "--label", "file-name", "--item-files"], "choose --label prefix, or none"),
        (["generate", "--label", "F"], "This model's texts have no labels; leave out label"),
    ],
)
def test_where_there_are_no_labels_none_are_asked_for(words: list[str], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        run(*words)
