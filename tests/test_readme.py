"""The README lands in 170 lines, its commands exist, and its example prints the text it shows."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model.checkpoint import BUNDLED
from tests.benchmarks.__main__ import BENCHMARKS, BY_NAME
from tests.load.__main__ import FIGURES
from tests.service.serving import serving_process

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
LONGEST = 170  # lines
ROUTES = "| route | what |"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """`unroll serve` as the README starts it, the bundled model, on a free port."""
    with serving_process("--port", "0") as (_, url):
        yield url


def routes_of(page: str) -> set[str]:
    """The paths that the table of the API names."""
    table = page.split(ROUTES)[1].split("\n\n")[0]
    return set(re.findall(r"`(?:POST |GET )?(/[^`]*)`", table))


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


def test_its_sections_come_in_order() -> None:
    assert re.findall(r"^## (.*)$", README, re.M) == [
        "What it is for",
        "Two commands",
        "A generated text",
        "Train on your own text",
        "The API",
        "Figures that matter",
        "Where to read on",
        "Licence",
    ]
    opening = README.split("## ")[0].split("\n", 1)[1].strip()
    assert re.fullmatch(r"[^.]+\.", opening)
    assert README.split("## What it is for")[1].split("## ")[0].count("\n- ") == 5


def test_the_curl_example_prints_the_text_that_is_shown(url: str) -> None:
    found = re.search(r"```sh\n(curl .*?)```\n\n```text\n(.*?)```", README, re.S)
    assert found
    command = found[1].replace("http://127.0.0.1:8000", url).replace("python3", sys.executable)
    done = subprocess.run(["bash", "-c", command], env={"PATH": os.environ["PATH"]}, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == found[2]


def test_its_table_names_every_route_and_no_other(url: str) -> None:
    described = set(httpx.get(f"{url}/openapi.json").json()["paths"])
    assert routes_of(README) == {path.replace("{model}", "{id}") for path in described} | {"/docs", "/openapi.json"}


def test_the_docs_have_an_example_of_every_route() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    called = {path.replace(BUNDLED_ID, "{id}") for path in re.findall(r"^curl \S+ \$URL(/\S*)", page, re.M)}
    assert routes_of(README) - called == {"/docs"}
    assert routes_of(page) == routes_of(README)


BUNDLED_ID = "shakespeare"


def test_the_bundled_model_is_called_as_the_example_says(url: str) -> None:
    models = httpx.get(f"{url}/v1/models").json()["data"]
    assert [model["id"] for model in models] == [BUNDLED_ID]
    assert BUNDLED.is_dir()


def figures() -> list[list[str]]:
    """The rows of the table of figures, as cells."""
    table = README.split("| what | figure | reprinted by |\n|---|---|---|\n")[1].split("\n\n")[0]
    return [row.strip("| ").split(" | ") for row in table.splitlines()]


def test_there_are_at_most_a_dozen_figures_and_the_docs_have_each() -> None:
    assert 1 <= len(figures()) <= 12
    page = (ROOT / "docs" / "figures.md").read_text("utf-8")
    for _, figure, command in figures():
        assert command in page
        for number in re.findall(r"\d[\d.,]*\d", figure):
            assert number in page, number


@pytest.mark.parametrize("page", ["README.md", "docs/figures.md"])
def test_what_the_checkpoint_says_of_itself_is_what_is_quoted(page: str) -> None:
    """The only figures that a command has at hand without measuring."""
    command = [sys.executable, "-m", "unroll", "info", "--json"]
    said = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    known = {f"{part['bits_per_character']:.4f}" for part in said["training"]["figures"].values()}
    (row,) = [line for line in (ROOT / page).read_text("utf-8").splitlines() if "| `unroll info --all` |" in line]
    assert set(re.findall(r"\d\.\d{4}", row)) == known


@pytest.mark.parametrize("page", ["README.md", "docs/figures.md"])
def test_the_commands_that_reprint_figures_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    named = [name for names in re.findall(r"`python -m tests\.benchmarks ([a-z ]+)`", text) for name in names.split()]
    assert named
    assert set(named) <= {*BENCHMARKS, *BY_NAME}
    assert set(re.findall(r"`python -m tests\.load (\w+)`", text)) <= {*FIGURES, "chaos"}


def test_the_page_of_figures_names_those_that_make_benchmark_leaves_out() -> None:
    page = (ROOT / "docs" / "figures.md").read_text("utf-8")
    named = {name for names in re.findall(r"`python -m tests\.benchmarks ([a-z ]+)`", page) for name in names.split()}
    left_out = page.split("all but", 1)[1].split("in one run", 1)[0]
    assert set(re.findall(r"`(\w+)`", left_out)) == named & set(BY_NAME)
