"""What a public server is asked in a day: good requests of every kind, and those that are wrong in every way."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.load.wire import request

KEY = "a-key-of-the-load-script"
MOST_BODY = 200_000  # bytes the server is told to take, so that too much costs little
MOST_HEADERS = 16_384

COMPLETIONS = "/v1/completions"
WORDS = [
    "to",
    "be",
    "or",
    "not",
    "my",
    "lord",
    "the",
    "king",
    "is",
    "dead",
    "and",
    "we",
    "are",
    "players",
    "good",
    "night",
]
STOPS = ["\n\n", "the ", "KING", ".\n"]


@dataclass(frozen=True)
class Ask:
    """A request and what has to come of it.

    data: its bytes. status: of its answer; 0 where it may be any that is no error of the server's. texts: how many the
    engine is to write or score. unread: the server answers before it has parsed a request, so that it is counted as a
    refusal and not as a request.
    """

    data: bytes
    status: int = 200
    texts: int = 0
    stream: bool = False
    unread: bool = False


def words(chance: random.Random, most: int = 12) -> str:
    """A short prompt."""
    return " ".join(chance.choices(WORDS, k=chance.randint(1, most)))


def completion(chance: random.Random, **given: Any) -> Ask:
    """A completion: one text or several, with stop strings, log-probabilities and penalties now and then."""
    fields: dict[str, Any] = {"prompt": words(chance), "max_tokens": chance.choice((1, 8, 16, 40))}
    fields["stream"] = chance.random() < 0.5
    if chance.random() < 0.2:
        fields |= {"n": chance.randint(2, 3), "seed": chance.getrandbits(30)}
    if chance.random() < 0.2:
        fields["stop"] = chance.sample(STOPS, 2)
    if chance.random() < 0.1:
        fields["logprobs"] = 2
    if chance.random() < 0.1:
        fields |= {"temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.1}
    if chance.random() < 0.05:
        fields |= {"prompt": [words(chance), words(chance)]}
    fields |= given
    if chance.random() < 0.05 and not fields["stream"]:
        fields |= {"n": 1, "best_of": 2}
    if fields["stream"]:
        fields["stream_options"] = {"include_usage": True}
    prompts = len(fields["prompt"]) if isinstance(fields["prompt"], list) else 1
    texts = prompts * fields.get("best_of", fields.get("n", 1))
    return Ask(request(COMPLETIONS, fields, key=KEY), texts=texts, stream=fields["stream"])


def score(chance: random.Random) -> Ask:
    """Two or three texts to be compared."""
    texts = [words(chance) for _ in range(chance.randint(2, 3))]
    return Ask(request("/v1/score", {"texts": texts}, key=KEY), texts=len(texts))


def generate(chance: random.Random) -> Ask:
    """The dialect of text-generation-inference, whole or streamed."""
    stream = chance.random() < 0.5
    fields = {"inputs": words(chance), "parameters": {"max_new_tokens": 8}}
    return Ask(request("/generate_stream" if stream else "/generate", fields, key=KEY), texts=1, stream=stream)


def tokens(chance: random.Random) -> Ask:
    """A text to ids."""
    return Ask(request("/tokenize", {"prompt": words(chance)}, key=KEY))


def look(chance: random.Random) -> Ask:
    """What is served, and how it is."""
    paths = ("/health", "/health/live", "/health/ready", "/v1/models", "/info", "/version", "/openapi.json")
    return Ask(request(chance.choice(paths), key=KEY))


GOOD: dict[Callable[[random.Random], Ask], float] = {completion: 55, generate: 8, score: 7, tokens: 10, look: 20}


def good(chance: random.Random) -> Ask:
    """A request that is answered with 200."""
    (kind,) = chance.choices(list(GOOD), weights=list(GOOD.values()))
    return kind(chance)


def _body(text: bytes, status: int = 400) -> Ask:
    return Ask(request(COMPLETIONS, body=text, key=KEY), status)


def _fields(status: int = 400, **fields: Any) -> Ask:
    return Ask(request(COMPLETIONS, {"prompt": "a", **fields}, key=KEY), status)


def _headers(status: int, key: str | None = KEY, path: str = COMPLETIONS, **headers: str) -> Ask:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Ask(request(path, {"prompt": "a"}, key=key, headers=named), status)


def _too_large() -> Ask:
    """A length that is announced, and whose bytes never come."""
    return Ask(request(COMPLETIONS, key=KEY, method="POST", headers={"Content-Length": str(10**12)}), 413)


def _too_large_in_chunks() -> Ask:
    """A body that says nothing of its length until it is too much."""
    head = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    whole = chunk * (MOST_BODY // 0x8000 + 2) + b"0\r\n\r\n"
    return Ask(request(COMPLETIONS, key=KEY, method="POST", headers=head) + whole, 413)


BAD: list[Callable[[], Ask]] = [
    lambda: _body(b'{"prompt": '),
    lambda: _body(b""),
    lambda: _body(b"\xff\xfe\x00", 415),
    lambda: _body(b"[1, 2]"),
    lambda: _body(b"[" * 5_000),
    lambda: _body(json.dumps({"prompt": 1.5}).encode()),
    lambda: _body(b'{"prompt": "\\ud800"}'),
    lambda: _body(b'{"prompt": "a", "max_tokens": 1' + b"0" * 400 + b"}"),
    lambda: _body(b'{"prompt": "a", "temperature": NaN}'),
    lambda: _fields(max_tokens="many"),
    lambda: _fields(n=10**9),
    lambda: _fields(stop=[""]),
    lambda: _fields(temperature=-1),
    lambda: _fields(logit_bias={"1e3": 1}),
    lambda: _fields(404, model="another"),
    lambda: _fields(prompt="a" * 60_000, n=16, max_tokens=100_000, logprobs=100),
    lambda: _headers(415, Content_Type="text/plain"),
    lambda: _headers(421, Host="elsewhere.example"),
    lambda: _headers(401, key=None),
    lambda: _headers(401, key="not-one-of-the-keys-it-knows"),
    lambda: _headers(404, path="/v1/chat/completions/../../etc/passwd"),
    lambda: Ask(request("/no/such/route", key=KEY), 404),
    lambda: Ask(request(COMPLETIONS, key=KEY), 405),
    lambda: Ask(
        request(COMPLETIONS, {"prompt": "a"}, key=KEY, headers={"X-Long": "a" * MOST_HEADERS}), 431, unread=True
    ),
    lambda: Ask(b"NOT HTTP AT ALL\r\n\r\n", 400, unread=True),
    lambda: Ask(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: a\r\n\r\n", 400, unread=True),
    lambda: Ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, unread=True),
    _too_large,
    _too_large_in_chunks,
]
"""Everything that is refused, and with what."""


def bad(chance: random.Random) -> Ask:
    """A request that is refused."""
    return chance.choice(BAD)()


def long(chance: random.Random, *, stream: bool) -> Ask:
    """A completion that somebody gives up in its middle."""
    return completion(chance, max_tokens=2_000, stream=stream, stop=[])
