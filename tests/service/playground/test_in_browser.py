"""The page once in a real browser, where there is one; `make browser` tries all of it."""

import base64
import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.serving import Running, eventually

SECONDS = 60  # for a busy machine


def fragment(model: str, parts: list[Any]) -> str:
    """A view as the page writes it into its address."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(json.dumps([1, model, parts]).encode()) + packer.flush()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


class Browser:
    """Chromium without a window, told what to do over a pipe in its DevTools protocol."""

    def __init__(self, program: str, folder: Path) -> None:
        from_us, self._commands = os.pipe()
        self._answers, to_us = os.pipe()

        def place() -> None:
            os.dup2(from_us, 60)
            os.dup2(to_us, 61)
            os.dup2(60, 3)  # where it reads commands
            os.dup2(61, 4)

        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")
        self._process = subprocess.Popen(
            [program, *flags, f"--user-data-dir={folder}", "about:blank"],
            preexec_fn=place,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(from_us)
        os.close(to_us)
        self._held = b""
        self._sent = 0
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """The answer to one command; events are passed over."""
        self._sent += 1
        command = {"id": self._sent, "method": method, "params": parameters}
        os.write(self._commands, json.dumps(command | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            while b"\0" not in self._held:
                piece = os.read(self._answers, 1 << 16)
                assert piece, "the browser ended"
                self._held += piece
            message, _, self._held = self._held.partition(b"\0")
            answer = json.loads(message)
            if answer.get("id") == self._sent:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, url: str) -> None:
        """Go to an address."""
        self.ask("Page.navigate", self._session, url=url)

    def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        answer = self.ask("Runtime.evaluate", self._session, expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser of its own, where the machine has one."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    made = Browser(program, tmp_path)
    try:
        yield made
    finally:
        made.close()


PAPER = "document.querySelector('#paper .text')?.textContent"
COLOURS = "new Set([...document.querySelectorAll('#paper .line > span')].map((run) => run.className)).size"


def test_a_link_shows_the_text_that_the_server_writes(browser: Browser, server: Running) -> None:
    digest = server.client.get("/v1/models").json()["data"][0]["digest"]
    view = fragment(f"{server.model}@{digest[:12]}", ["ab", [40, 40, {"seed": 3, "temperature": 0.5}], "<b>"])
    wanted = server.complete("ab", max_tokens=40, seed=3, temperature=0.5)["choices"][0]["text"]
    browser.open(f"{server.url}/#{view}")
    assert eventually(lambda: browser.value(PAPER) == f"ab{wanted}<b>", SECONDS), browser.value(PAPER)
    assert eventually(lambda: browser.value(COLOURS) > 2, SECONDS)
    assert browser.value("document.querySelector('#paper b')") is None
    assert browser.value("document.getElementById('notice').hidden")
