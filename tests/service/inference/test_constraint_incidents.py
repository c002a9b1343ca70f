"""Incidents that other servers had with patterns, each a test by its name."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import save
from service.settings import Settings
from tests.model.constraints.written import CHECKPOINT, write
from tests.service.serving import serving
from tests.service.sse_client import stream

CYCLE = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
BAD: list[dict[str, Any]] = [
    {"guided_regex": "("},
    {"guided_regex": "ab\\"},
    {"guided_regex": "((a{99}){99}){99}"},
    {"guided_regex": "Ω+"},
    {"guided_json": CYCLE},
    {"guided_json": {"type": "integer", "minimum": 3, "maximum": 2}},
    {"guided_json": {"$ref": "https://example.com/schema.json"}},
    {"guided_grammar": "start: start start"},
    {"guided_grammar": "root ::= ("},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "ascii"
    save(CHECKPOINT, folder)
    return folder


def test_a_bad_pattern_does_not_kill_the_worker(folder: Path) -> None:
    """Each is refused; a text beside them and those after them are as ever."""
    with serving(Settings(checkpoint=folder)) as running:
        beside: list[str] = []

        def read() -> None:
            events = stream(running.client, prompt="a", max_tokens=400, seed=3, stream_interval=0)
            beside.append("".join(event["choices"][0]["text"] for event in events))

        reader = threading.Thread(target=read)
        reader.start()
        for fields in BAD:
            answer = running.client.post("/v1/completions", json={"prompt": "a", "max_tokens": 5, **fields})
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"] in fields
        reader.join()
        assert beside == [write(None, max_tokens=400, seed=3).text]
        answer = running.complete(guided_regex="[a-c]{4}", max_tokens=9, seed=1)
        assert re.fullmatch("[a-c]{4}", answer["choices"][0]["text"])


def test_patterns_do_not_fill_a_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing compiled is written to a file, neither by the server nor by the process that compiles."""
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    before = {path: path.stat().st_size for path in folder.rglob("*")}
    with serving(Settings(checkpoint=folder)) as running:
        for number in range(1, 40):
            running.complete(guided_regex=f"[a-z]{{{number}}}", max_tokens=50)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert {path: path.stat().st_size for path in folder.rglob("*")} == before


@pytest.mark.parametrize("pattern", ["(ab)*", "[^☃]*", '"([a-z]+ )*[a-z]+"', "(aaa|bb)+"])
def test_a_regex_does_not_run_past_max_tokens(pattern: str, folder: Path) -> None:
    with serving(Settings(checkpoint=folder)) as running:
        for max_tokens in range(3, 24):
            answer = running.complete(guided_regex=pattern, max_tokens=max_tokens, seed=max_tokens)
            text = answer["choices"][0]["text"]
            assert re.fullmatch(pattern, text), text
            assert len(text) == answer["usage"]["completion_tokens"] <= max_tokens
