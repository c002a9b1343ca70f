"""The pages of docs: their examples run, their links lead somewhere, and the map shows the house as it is."""

import ast
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
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
API = (DOCS / "api.md").read_text("utf-8")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """`unroll serve` as the README starts it, the bundled model, on a free port."""
    with serving_process("--port", "0") as (_, url):
        yield url


def curl_body() -> str:
    """The request of the example whose answer is shown: the one that streams."""
    bodies: list[str] = re.findall(r"^\$ curl .*-d '(\{.*?\})'", API, re.M)
    assert len(bodies) == 1
    return bodies[0]


def test_the_curl_example_streams_what_is_shown(url: str) -> None:
    with httpx.stream("POST", f"{url}/v1/completions", json=json.loads(curl_body()), timeout=30) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    text = "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])
    assert len(text) == json.loads(curl_body())["max_tokens"]
    after = API.split(curl_body())[1].split("```")[0]
    *shown, done = [line.removeprefix("data: ") for line in after.splitlines() if line.startswith("data: ")]
    assert done == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["text"] for event in shown) == text
    for event in shown:
        example, served = json.loads(event), json.loads(events[0])
        assert example.keys() == served.keys()
        assert example["choices"][0].keys() == served["choices"][0].keys()


def programs() -> list[str]:
    """The examples in Python: the `openai` package, then scores."""
    return re.findall(r"```python\n(.*?)```", API, re.S)


def run(program: str, url: str) -> str:
    program = program.replace("http://127.0.0.1:8000", url)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    return done.stdout.decode()


def test_the_python_example_prints_the_same_text(url: str) -> None:
    body = {**json.loads(curl_body()), "stream": False}
    whole = httpx.post(f"{url}/v1/completions", json=body, timeout=30).json()
    assert run(programs()[0], url) == whole["choices"][0]["text"]


def test_the_examples_of_scores_rank_and_notice(url: str) -> None:
    said, ordinary, odd = filter(None, run(programs()[1], url).split("\n"))
    assert said == "said: the king is dead"
    assert float(ordinary.split()[0]) < 90
    assert float(odd.split()[0]) > 99


def test_the_example_of_inspection_looks_inside(url: str) -> None:
    unit, *characters, felt = run(next(one for one in programs() if "/v1/inspect" in one), url).splitlines()
    correlation = re.fullmatch(r"unit \d+ of layer \d \((?:hidden|cell)\) follows the line: ([+-]0\.\d\d)", unit)
    assert correlation is not None, unit
    assert abs(float(correlation[1])) > 0.5
    assert [line.split()[0] for line in characters] == [repr(character) for character in "ROMEO:\nT"]
    assert re.fullmatch(r"without 'T' the next character differs by (\d+\.\d\d) bits", felt)


@pytest.mark.parametrize("command", re.findall(r"^curl .*\$URL.*$", API, re.M))
def test_every_example_of_the_api_is_answered(command: str, url: str) -> None:
    done = subprocess.run(["bash", "-c", command], env={"URL": url, "PATH": os.environ["PATH"]}, capture_output=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    if not command.split()[2].endswith(("stream", "/metrics")):
        json.loads(done.stdout)


def the_map() -> dict[str, str]:
    """Folder to caption, from the lines of the map."""
    tree = (DOCS / "architecture.md").read_text("utf-8").split("```text\n")[1].split("```")[0]
    lines = [re.fullmatch(r"([\w/]+)/ +(\S.*)", line) for line in tree.splitlines()]
    assert all(lines), tree
    return {line[1]: line[2] for line in lines if line}


def test_the_map_names_every_folder_and_no_other() -> None:
    packages = ("model", "training", "service", "examples", "tests")
    there = {path.parent.relative_to(ROOT).as_posix() for name in packages for path in (ROOT / name).rglob("*.py")}
    mirrors = {name for name in there if name.startswith("tests/") and name.count("/") > 1}  # of the packages' folders
    assert {name.removeprefix("tests/") for name in mirrors} <= there
    assert set(the_map()) == there - mirrors | {"model/kernel", "model/bundled", "docker"}
    assert all((ROOT / folder).is_dir() for folder in the_map())


@pytest.mark.parametrize("folder", [name for name in the_map() if (ROOT / name / "__init__.py").is_file()])
def test_a_caption_of_the_map_is_the_one_of_its_folder(folder: str) -> None:
    caption = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text("utf-8"))) or ""
    assert the_map()[folder] == " ".join(caption.partition("\n\n")[0].split())


def test_the_ways_through_the_house_name_what_exists() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    named = re.findall(r"\b(?:model|service|training)/\w+(?:\.py)?", text)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def prose(page: Path) -> str:
    """A page without its blocks of code, in which a # opens no heading and a bracket no link."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """What headings are called in an address: lower case, words joined by hyphens."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_readme_leads_to_every_page() -> None:
    readme = prose(ROOT / "README.md")
    assert [page.name for page in DOCS.glob("*.md") if f"](docs/{page.name})" not in readme] == []
