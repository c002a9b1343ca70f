"""The README's examples run, and its map shows the house as it is."""

import json
import os
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


def api_examples() -> list[str]:
    return re.findall(r"^curl .*\$URL.*$", README, re.M)


@pytest.mark.parametrize("command", api_examples())
def test_every_example_of_the_api_is_answered(command: str, url: str) -> None:
    done = subprocess.run(["bash", "-c", command], env={"URL": url, "PATH": os.environ["PATH"]}, capture_output=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    if not command.split()[2].endswith(("stream", "/metrics")):
        json.loads(done.stdout)


def test_every_route_of_the_table_has_an_example(url: str) -> None:
    table = README.split("| route | what |")[1].split("With `URL")[0]
    named = {path.replace("{id}", "shakespeare") for path in re.findall(r"`(?:POST |GET )?(/[^`]*)`", table)}
    assert named - {command.split()[2].removeprefix("$URL") for command in api_examples()} == {"/docs"}
    described = httpx.get(f"{url}/openapi.json").json()["paths"]
    assert {path.replace("{model}", "shakespeare") for path in described} == named - {"/docs", "/openapi.json"}


def test_the_examples_of_scores_rank_and_notice(url: str) -> None:
    program = re.findall(r"```python\n(.*?)```", README, re.S)[1].replace("http://127.0.0.1:8000", url)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    said, ordinary, odd = filter(None, done.stdout.split("\n"))
    assert said == "said: the king is dead"
    assert float(ordinary.split()[0]) < 90
    assert float(odd.split()[0]) > 99


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
