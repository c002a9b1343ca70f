"""The page: what a browser gets at /, its files, its size, and who may have them."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.playground.static_files import FOLDER
from service.settings import Settings
from tests.service.serving import Running, serving

ROOT = Path(__file__).parents[3]
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
KEY = "k" * 32
LARGEST = 60_000  # bytes, compressed, of all files together


@pytest.fixture(scope="module")
def prefixed(checkpoint_folder: Path) -> Iterator[Running]:
    """A server with a key that a proxy has at /llm, with one request a minute for each caller."""
    with serving(
        Settings(checkpoint=checkpoint_folder, root_path="/llm", api_keys=KEY, key_requests_per_minute=1)
    ) as running:
        yield running


def links(page: str) -> list[str]:
    """Addresses of files that the page names."""
    return re.findall(r'(?:src|href)="((?:/llm)?/page/\w+/[^"/]+)"', page)


def test_a_browser_gets_the_page_and_a_program_an_object(server: Running) -> None:
    page = server.client.get("/", headers=BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    assert server.client.get("/").json()["model"] == server.model
    assert "Accept" in page.headers["vary"]


def test_every_file_that_the_page_names_is_there_and_kept_forever(server: Running) -> None:
    named = links(server.client.get("/", headers=BROWSER).text)
    assert len(named) > 5
    for path in named:
        answer = server.client.get(path)
        assert answer.status_code == 200, path
        assert "immutable" in answer.headers["cache-control"]
        assert answer.content == (FOLDER / path.rpartition("/")[2]).read_bytes()


def test_modules_import_only_files_that_are_there() -> None:
    for module in FOLDER.glob("*.js"):
        if module.name == "lit-html.js":
            continue
        named = re.findall(r'(?:from|import\() ?"\./([^"]+)"', module.read_text("utf-8"))
        assert [name for name in named if not (FOLDER / name).is_file()] == [], module.name


def test_files_of_another_version_are_not_there(server: Running) -> None:
    path = links(server.client.get("/", headers=BROWSER).text)[0]
    for other in ("/page/", "/page/0123456789abcdef/main.js", path + "x", path.replace("/page/", "/page/../page/")):
        assert server.client.get(other.replace("/../", "/%2e%2e/")).status_code == 404


def test_all_files_together_are_small(server: Running) -> None:
    """What a first visit and every tab of the page load, as sent."""
    sizes = {}
    for file in FOLDER.iterdir():
        folder = links(server.client.get("/", headers=BROWSER).text)[0].rpartition("/")[0]
        path = "/" if file.name == "index.html" else f"{folder}/{file.name}"
        with server.client.stream("GET", path, headers={**BROWSER, "Accept-Encoding": "gzip"}) as answer:
            sent = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
        assert file.name == "index.html" or gzip.decompress(sent) == file.read_bytes()
        sizes[file.name] = len(sent)
    assert len(sizes) > 10
    assert sum(sizes.values()) <= LARGEST, sizes


def test_the_policy_of_the_page_lets_nothing_else_in(server: Running) -> None:
    policy = server.client.get("/", headers=BROWSER).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    text = "".join(file.read_text("utf-8") for file in FOLDER.iterdir())
    assert not re.search(
        r"<style|<script(?![^>]*\bsrc=)| on[a-z]+=\"| style=\"", (FOLDER / "index.html").read_text("utf-8")
    )
    ours = text.replace((FOLDER / "lit-html.js").read_text("utf-8"), "")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|unsafeHTML|\beval\(", ours)
    assert set(re.findall(r"https?://[^\s\"'`<>]+", ours)) == {"http://www.w3.org/2000/svg"}


def test_behind_keys_the_page_is_public_and_its_data_is_not(prefixed: Running) -> None:
    page = httpx.get(prefixed.url + "/llm/", headers=BROWSER)
    assert page.status_code == 200
    named = links(page.text)
    assert all(path.startswith("/llm/page/") for path in named)
    for path in named * 3:  # files are not counted as requests
        assert httpx.get(prefixed.url + path).status_code == 200
        assert httpx.get(prefixed.url + path.removeprefix("/llm")).status_code == 200
    for path in (
        "/llm/",
        "/llm/v1/models",
        "/llm/docs",
        "/llm/page/",
        f"{named[0]}x",
        f"{named[0]}/../../../v1/models",
    ):
        assert httpx.get(prefixed.url + path).status_code == 401, path
    assert httpx.post(prefixed.url + "/llm/", headers=BROWSER, json={"inputs": "a"}).status_code == 401
    assert httpx.post(prefixed.url + named[0], headers=BROWSER).status_code == 401


def test_no_page_sends_a_browser_to_the_documentation(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder, page=False)) as running:
        answer = running.client.get("/", headers=BROWSER)
        assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
        assert running.client.get("/page/x/main.js").status_code == 404
    with serving(Settings(checkpoint=checkpoint_folder, page=False, api_keys=KEY)) as running:
        assert running.client.get("/", headers=BROWSER).status_code == 401


def test_a_name_that_is_not_the_server_s_gets_no_page(server: Running) -> None:
    assert server.client.get("/", headers={**BROWSER, "Host": "evil.example"}).status_code == 421


def test_what_others_wrote_is_as_they_published_it_and_listed() -> None:
    vendored = json.loads((FOLDER.parent / "vendored.json").read_text("utf-8"))
    licences = (ROOT / "LICENCES.md").read_text("utf-8")
    for one in vendored:
        content = (FOLDER.parent / one["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"]
        assert f"SPDX-License-Identifier: {one['licence']}".encode() in content
        assert f"| {one['name']} | {one['version']} | {one['licence']} | {one['sha256']} |" in licences
