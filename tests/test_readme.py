"""The README's examples run, and its map shows the house as it is."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.serving import serving_process

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """`unroll serve` as the README starts it, the bundled model, on a free port."""
    with serving_process("--port", "0") as (_, url):
        yield url


def curl_body() -> str:
    """The request of the example whose answer is shown: the one with a seed."""
    bodies: list[str] = re.findall(r"-d '(\{.*?\})'", README)
    return next(body for body in bodies if "seed" in body)


def test_the_curl_example_streams_what_is_shown(url: str) -> None:
    with httpx.stream("POST", f"{url}/v1/completions", json=json.loads(curl_body()), timeout=30) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert events[-1] == "[DONE]"
    text = "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])
    assert len(text) == json.loads(curl_body())["max_tokens"]
    shown = [line for line in README.split(curl_body())[1].split("```")[0].splitlines() if line.startswith("data: ")]
    assert shown[-1] == "data: [DONE]"
    for line in shown[:2]:  # in the shape shown; another kind of processor may round to another text
        example, served = json.loads(line.removeprefix("data: ")), json.loads(events[0])
        assert example.keys() == served.keys()
        assert example["choices"][0].keys() == served["choices"][0].keys()


def test_the_python_example_prints_the_same_text(url: str) -> None:
    found = re.search(r"```python\n(.*?)```", README, re.S)
    assert found
    program = found[1].replace("http://127.0.0.1:8000", url)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    body = {**json.loads(curl_body()), "stream": False}
    whole = httpx.post(f"{url}/v1/completions", json=body, timeout=30).json()
    assert done.stdout.decode() == whole["choices"][0]["text"]


def test_the_map_names_every_file_and_no_other() -> None:
    tree = README.split("## What is where")[1].split("```")[1]
    named: dict[str, set[str]] = {}
    for line in tree.splitlines():
        if folder := re.match(r"(\w+)/ ", line):
            files = named.setdefault(folder[1], set())
        elif file := re.match(r"  (\w+\.py|\w+/) ", line):
            files.add(file[1].rstrip("/"))
    for package in ("model", "training", "service"):
        there = {path.name for path in (ROOT / package).glob("*.py")} - {"__init__.py"}
        if package == "model":
            there |= {"bundled", "kernel"}
        assert named[package] == there
