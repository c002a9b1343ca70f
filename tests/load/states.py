"""States and ids of events that were tampered with: none of them is a fault of the server, or anybody else's state.

LOAD_TOKENS: how many are sent, 100,000 if not set.
"""

import base64
import http.client
import json
import os
import random
from collections import Counter
from collections.abc import Mapping

from tests.benchmarks.figures import Figure
from tests.load.process import Running, unroll_serve

TOKENS = int(os.environ.get("LOAD_TOKENS", "100000"))
KEYS = ("the-key-of-the-first-caller-0001", "the-key-of-the-second-caller-002")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Caller:
    """Sends requests with one of the keys, on one connection."""

    def __init__(self, running: Running, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
        self._headers = {"Host": "localhost", "Content-Type": "application/json", "Authorization": f"Bearer {key}"}

    def ask(self, body: Mapping[str, object], **headers: str) -> tuple[int, bytes]:
        """Status and body of an answer."""
        self._connection.request("POST", "/v1/completions", json.dumps(body), headers=self._headers | headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def state(self, prompt: str) -> str:
        """The state after a prompt."""
        _, content = self.ask({"prompt": prompt, "max_tokens": 3, "return_state": True})
        state: str = json.loads(content)["choices"][0]["state"]
        return state

    def event(self, body: Mapping[str, object]) -> str:
        """The id of the first event of a stream."""
        _, content = self.ask(body)
        return content.decode().partition("id: ")[2].partition("\n")[0]


def tampered(random_: random.Random, token: str, other: str) -> str:
    """A token that was changed in one of many ways; `other` is another one, parts of which it may get."""
    at, way = random_.randrange(len(token)), random_.randrange(7)
    if way == 0:
        return token[:at] + random_.choice(ALPHABET) + token[at + 1 :]
    if way == 1:
        return token[:at]
    if way == 2:
        return token[:at] + other[at:]
    if way == 3:
        return token + "".join(random_.choices(ALPHABET, k=random_.randrange(1, 2_000)))
    if way == 4:
        return "".join(random_.choices(ALPHABET + "é=+/ .,\x00", k=random_.randrange(1, 200)))
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    for _ in range(random_.randrange(1, 5)):
        raw[random_.randrange(len(raw)) if way == 5 else random_.randrange(200)] ^= random_.randrange(1, 256)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def changed(token: str, original: str) -> bool:
    """Whether a token says anything else; the last character has bits that nobody reads."""
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)) != base64.urlsafe_b64decode(
            original + "=" * (-len(original) % 4)
        )
    except ValueError:
        return True


def tampered_id(random_: random.Random, id_: str) -> str:
    """An id of an event that was changed."""
    at = random_.randrange(len(id_))
    way = random_.randrange(3)
    if way == 0:
        return id_[:at] + random_.choice(ALPHABET + ".,+e") + id_[at + 1 :]
    return id_[:at] if way == 1 else id_ + "".join(random_.choices("0123456789+,e-.", k=random_.randrange(1, 30)))


def measure() -> list[Figure]:
    """Send tokens that were tampered with, in turn with those of the other key, and ids of events."""
    random_, statuses = random.Random(1), Counter[int]()
    believed = stranger = 0
    streamed = {"prompt": "a", "max_tokens": 4, "stream": True}
    with unroll_serve("--max-waiting", "16", key=",".join(KEYS)) as running:
        first, second = (Caller(running, key) for key in KEYS)
        own, others, id_ = first.state("mine"), second.state("yours"), first.event(streamed)
        for at in range(TOKENS):
            if at % 10 == 9:
                status, _ = first.ask(streamed, **{"Last-Event-ID": tampered_id(random_, id_)})
                statuses[status] += 1
                continue
            token = others if at % 100 == 0 else tampered(random_, own if at % 2 else others, own)
            status, _ = first.ask({"prompt": "", "max_tokens": 0, "state": token})
            statuses[status] += 1
            if status == 200:
                believed += changed(token, own)
                stranger += not changed(token, others)
    told = ", ".join(f"{count:,} × {status}" for status, count in sorted(statuses.items()))
    return [
        Figure(f"tokens and ids sent ({told})", TOKENS, "requests"),
        Figure(
            "answers of 5xx", sum(count for status, count in statuses.items() if status >= 500), "answers", 0, "most"
        ),
        Figure("changed tokens that were believed", believed, "tokens", 0, "most"),
        Figure("states of the other key that were believed", stranger, "tokens", 0, "most"),
    ]
