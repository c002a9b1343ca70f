"""A client that does not give up: it asks again where it is told to, and goes on with a stream that broke."""

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

AGAIN = frozenset({429, 502, 503, 504})
PATIENCE = 60.0  # seconds until a text counts as failed
Body = dict[str, Any]


@dataclass
class Text:
    """What came of one request.

    version: the fingerprint of the model. mended: how often the client had to do something, by what it was.
    """

    body: Body
    text: str = ""
    seed: int | None = None
    versions: set[str] = field(default_factory=set)
    whole: bool = False
    mended: Counter[str] = field(default_factory=Counter)
    said: str = ""

    def forget(self) -> None:
        """Begin anew."""
        self.text, self.seed, self.versions = "", None, set()


class Asking:
    """One request to a port until its text is whole, or patience ends."""

    def __init__(self, port: int, key: str, body: Body) -> None:
        self.found = Text(body)
        self._port, self._key, self._last = port, key, ""

    def run(self) -> Text:
        """The whole text, or what was said instead."""
        deadline = time.monotonic() + PATIENCE
        while not self.found.whole and time.monotonic() < deadline:
            try:
                self._once()
            except (OSError, http.client.HTTPException) as error:
                self._mend("answers or connections that broke", repr(error))
                time.sleep(0.05)
        return self.found

    def _mend(self, how: str, said: str) -> None:
        self.found.mended[how] += 1
        self.found.said = said

    def _once(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}", "Host": "localhost"}
        if self._last:
            headers["Last-Event-ID"] = self._last
            self.found.mended["streams gone on with by Last-Event-ID"] += 1
        try:
            connection.request("POST", "/v1/completions", json.dumps(self.found.body), headers)
            answer = connection.getresponse()
            if answer.status == 200:
                (self._stream if self.found.body.get("stream") else self._answer)(answer)
            else:
                self._refused(answer.status, answer.headers.get("Retry-After"), answer.read().decode())
        finally:
            connection.close()

    def _refused(self, status: int, after: str | None, said: str) -> None:
        if status == 204 and self._last:
            self.found.whole = True
        elif status == 409 and self._last:
            self._mend("begun anew with another version", said)
            self.found.forget()
            self._last = ""
        elif status in AGAIN:
            self._mend(f"asked again after {status}", said)
            time.sleep(float(after or 0.1))
        else:
            raise ValueError(f"{status}: {said[:300]}")

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        said = json.loads(answer.read())
        self.found.forget()
        self._take(said)
        self.found.whole = True

    def _take(self, said: dict[str, Any]) -> None:
        self.found.text += said["choices"][0]["text"]
        self.found.seed = said["seed"]
        self.found.versions.add(said["system_fingerprint"])

    def _stream(self, answer: http.client.HTTPResponse) -> None:
        kept = b""
        while piece := answer.read1(65_536):
            *blocks, kept = (kept + piece).split(b"\n\n")
            for block in blocks:
                if not self._event(block.decode()):
                    return
        if not self.found.whole:
            self._mend("streams that broke", "")

    def _event(self, block: str) -> bool:
        """Take one event; whether the stream goes on."""
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" not in lines:
            return True
        if lines["data"] == "[DONE]":
            self.found.whole = True
            return False
        said = json.loads(lines["data"])
        if "error" in said:
            self._mend("streams that an error event ended", lines["data"])
            return False
        self._take(said)
        self._last = lines["id"]
        return True


class Crowd:
    """Clients in threads of their own that ask for texts, one after another, from a `with` block's begin to its end."""

    def __init__(self, port: int, key: str, bodies: list[Body], clients: int) -> None:
        self.texts: list[Text] = []
        self._over = threading.Event()
        turns = [bodies[at:] + bodies[:at] for at in range(clients)]
        self._threads = [threading.Thread(target=self._run, args=(port, key, turn)) for turn in turns]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, port: int, key: str, bodies: list[Body]) -> None:
        at = 0
        while not self._over.is_set():
            asking = Asking(port, key, bodies[at % len(bodies)])
            try:
                self.texts.append(asking.run())
            except (ValueError, KeyError) as error:
                asking.found.said = f"{error!r}"
                self.texts.append(asking.found)
            at += 1

    def mended(self) -> Counter[str]:
        """What the clients had to do, all together."""
        return sum((one.mended for one in list(self.texts)), Counter[str]())
