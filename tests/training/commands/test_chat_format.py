"""`unroll train --chat-format`: the checkpoint carries it, a server answers chats in it, and training on keeps it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import unroll
from model.checkpoint import load
from model.errors import ParameterError
from model.text.chat_format import ChatFormat
from service.settings import Settings
from tests.service.serving import serving

FORM: dict[str, Any] = {
    "roles": {"user": {"prefix": "> ", "suffix": "\n"}, "assistant": {"prefix": "< ", "suffix": "\n"}},
    "stop": ["\n"],
}
TALK = "> who\n< me\n> when\n< now\n" * 200
QUICK = [
    "--layers",
    "1",
    "--hidden",
    "32",
    "--embedding",
    "8",
    "--precision",
    "fp32",
    "--batch-size",
    "8",
    "--epochs",
    "4",
]


def run(*words: Any) -> str:
    result = CliRunner().invoke(unroll.make_program(), [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_corpus_of_turns_is_answered_turn_by_turn(tmp_path: Path) -> None:
    corpus, form = tmp_path / "talk.txt", tmp_path / "chat.json"
    corpus.write_text(TALK)
    form.write_text(json.dumps(FORM))
    run("train", corpus, *QUICK, "--chat-format", form, "--out", tmp_path / "run")
    best = tmp_path / "run" / "best"
    assert load(best).tokenizer.frame.chat == ChatFormat.from_json(FORM)
    with serving(Settings(checkpoint=best)) as running:
        for said in ("who", "when"):
            body = {"messages": [{"role": "user", "content": said}], "temperature": 0}
            (choice,) = running.client.post("/v1/chat/completions", json=body).json()["choices"]
            (same,) = running.complete(f"> {said}\n< ", temperature=0, stop="\n", max_tokens=1024)["choices"]
            assert (choice["message"]["content"], choice["finish_reason"]) == (same["text"], "stop")
    run("train", corpus, *QUICK[-2:-1], "1", "--from", best, "--out", tmp_path / "on")
    assert load(tmp_path / "on" / "best").tokenizer.frame.chat == ChatFormat.from_json(FORM)
    form.write_text("{}")
    with pytest.raises(ParameterError, match="an object with roles and stop"):
        run("train", corpus, *QUICK, "--chat-format", form, "--out", tmp_path / "none")
    assert not (tmp_path / "none").exists()
