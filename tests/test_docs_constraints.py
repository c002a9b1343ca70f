"""The page on text that must match: its commands print what it shows, or what its patterns demand."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from model.checkpoint import save
from tests.model.constraints.written import CHECKPOINT
from tests.service.serving import program, serving_process

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "constraints.md").read_text("utf-8")
SHOWN = re.findall(r"^\$ unroll (.*)\n((?:(?!```).*\n)+)", PAGE, re.M)
FILES = dict(re.findall(r"^`([\w]+\.\w+)`:\n\n```\w+\n(.*?)```", PAGE, re.M | re.S))
WANTED = {
    "order ": r"[A-Z]{3}-\d{4}(-[a-z]+)?",
    "born ": r"(19|20)\d\d-\d\d-\d\d",
    "answer: ": r"yes|no|not sure",
    "list.gbnf": r"\[([a-z,\[\]]*\])?",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's files and a checkpoint of random weights that knows all of ASCII."""
    folder = tmp_path_factory.mktemp("examples")
    save(CHECKPOINT, folder / "MODEL")
    for name, content in FILES.items():
        (folder / name).write_text(content, "utf-8")
    return folder


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=str)
def test_the_bundled_model_answers_what_is_shown(command: str, shown: str) -> None:
    done = program(*shlex.split(command))
    assert done.stdout + done.stderr == shown


def is_person(text: str) -> bool:
    jsonschema.validate(json.loads(text), json.loads(FILES["person.json"]))
    return True


COMMANDS = re.findall(r"^unroll (generate MODEL .*)$", PAGE, re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_kind_matches(command: str, folder: Path) -> None:
    words = [str(folder / word) if word == "MODEL" or word in FILES else word for word in shlex.split(command)]
    done = program(*words, "--seed", "7")
    assert done.returncode == 0, done.stderr
    pattern = next((WANTED[name] for name in WANTED if name in shlex.split(command)), None)
    for choice in json.loads(done.stdout)["choices"]:
        text: str = choice["text"]
        assert is_person(text) if pattern is None else re.match(pattern, text), text
        assert choice["finish_reason"] == "stop" or "--grammar" in command


def test_every_kind_has_an_example() -> None:
    assert len(COMMANDS) == 5
    assert set(FILES) == {"person.json", "list.gbnf"}
    assert len(SHOWN) == 3


def test_the_programs_in_python_print_what_they_ask_for(folder: Path) -> None:
    code, _ = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    done = subprocess.run(
        [sys.executable, "-c", code.replace('"MODEL"', repr(str(folder / "MODEL")))],
        capture_output=True,
        timeout=60,
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    born, answers, person, anything, nested, digits, said = done.stdout.decode().split("\n", 6)
    assert re.fullmatch(r"(19|20)\d\d-\d\d-\d\d", born)
    assert set(ast.literal_eval(answers)) <= {"yes", "no", "not sure"}
    assert is_person(person)
    assert isinstance(json.loads(anything), dict)
    assert re.match(WANTED["list.gbnf"], nested)
    assert re.fullmatch(r"\d{9}", digits)
    assert len(said) == 41
    assert not any(word in said for word in ("e", "qu", "!"))


def test_the_program_in_python_prints_an_age(folder: Path) -> None:
    _, code = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    with serving_process(str(folder / "MODEL"), "--port", "0") as (_, url):
        code = code.replace("http://127.0.0.1:8000", url)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True, cwd=folder)
    assert 0 <= int(done.stdout) <= 120
