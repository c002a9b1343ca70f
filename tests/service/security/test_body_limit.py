"""What a body costs is counted from its bytes, wherever they are cut, and bounded for one and for all together."""

import json
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.security.json_cost import MOST_DIGITS, MOST_VALUES, NAME_VALUES, JsonCost
from service.settings import Settings
from tests.service.raw_client import Answer, answer, asking, connected
from tests.service.serving import Running, eventually, serving

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a,[]{}:"\\\né', max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(alphabet='a,[{"\\', max_size=5), inner, max_size=5)
    ),
    max_leaves=30,
)


def counted(value: Any) -> int:
    """Commas, opening brackets and colons of a value in JSON: an opening, and a comma for each member but the first."""
    if isinstance(value, list | dict):
        members = list(value.values()) if isinstance(value, dict) else value
        names = NAME_VALUES * len(value) if isinstance(value, dict) else 0
        return 1 + max(0, len(members) - 1) + names + sum(map(counted, members))
    return 0


@given(JSON, st.lists(st.integers(0, 300), max_size=6), st.booleans())
def test_values_are_counted_outside_of_strings_wherever_the_bytes_are_cut(
    value: Any, cuts: list[int], ascii_only: bool
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    count = JsonCost()
    before = 0
    for cut in [*sorted(cuts), len(text)]:
        count.add(text[before:cut])
        before = max(before, cut)
    assert count._separators == counted(value)


def test_the_most_values_are_taken_and_one_more_is_not(checkpoint_folder: Path) -> None:
    def ask(ids: int) -> httpx.Response:
        return running.client.post("/tokenize", json={"prompt": "a,[{" * 1000, "x": [1] * ids})

    opened = 3 + 2 * NAME_VALUES  # the object, its second member, and the list; two names
    with serving(Settings(checkpoint=checkpoint_folder)) as running:
        assert ask(MOST_VALUES - opened + 1).status_code == 200
        refused = ask(MOST_VALUES - opened + 2)
    assert refused.status_code == 413
    assert refused.json()["error"]["message"].startswith(
        "The body has more than 200,000 values, where the name of a member counts as 20; send long prompts as text"
    )


def ask(running: Running, body: bytes, path: str = "/tokenize") -> httpx.Response:
    return running.client.post(path, content=body, headers={"Content-Type": "application/json"})


@pytest.fixture(scope="module")
def roomy(checkpoint_folder: Path) -> Iterator[Running]:
    """A server with the limits it has by itself."""
    with serving(Settings(checkpoint=checkpoint_folder)) as running:
        yield running


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_only_utf_8_is_read(roomy: Running, encoding: str) -> None:
    """Python's parser would read these, and their brackets stand among bytes that look like others."""
    for text in ('{"prompt": "a"}', "[]", "1"):
        refused = ask(roomy, text.encode(encoding))
        assert refused.status_code == 415
        assert refused.json()["error"]["message"] == "The body is in UTF-16 or UTF-32; send it in UTF-8."
    assert ask(roomy, b'{"prompt": "a\\u0000\xf0\x9f\x98\x80"}').status_code == 200
    assert ask(roomy, b'\xef\xbb\xbf{"prompt": "a"}').status_code == 200


SLOW = {
    "an integer of many digits": (b"[" + b"9" * (MOST_DIGITS + 1) + b"]", 400),
    "a fraction of many digits": (b"1." + b"1" * 1_000_000, 400),
    "many long numbers": (b"[" + b",".join([b"1.23456789012345678901"] * 100_000) + b"]", 413),
    "many names": (b"{" + b",".join(b'"%d":1' % number for number in range(50_000)) + b"}", 413),
    "many strings": (b'"' * 4_000_000, 413),
    "many escapes": (b'"' + b"\\n" * 4_100_000 + b'"', 413),
}


@pytest.mark.parametrize(("body", "status"), SLOW.values(), ids=SLOW)
def test_what_is_slow_to_parse_is_not_parsed(roomy: Running, body: bytes, status: int) -> None:
    assert ask(roomy, body).status_code == status


@given(st.lists(st.integers(0, 1100), max_size=4), st.integers(1, 1000), st.sampled_from([b"9", b"1.5e-", b"0"]))
def test_the_length_of_a_number_is_seen_wherever_the_bytes_are_cut(cuts: list[int], length: int, digits: bytes) -> None:
    number = (digits * length)[:length]
    text = b'["' + b"7" * 700 + b'", ' + number + b", 5]"
    count = JsonCost()
    before = 0
    for cut in [*sorted(cuts), len(text)]:
        count.add(text[before:cut])
        before = max(before, cut)
    assert (count.digits > MOST_DIGITS) == (length > MOST_DIGITS)


@given(JSON)
def test_a_parsed_body_takes_no_more_than_is_charged(value: Any) -> None:
    def size(one: Any) -> int:
        inner = [*one, *one.values()] if isinstance(one, dict) else one if isinstance(one, list) else ()
        return sys.getsizeof(one) + sum(map(size, inner))

    text = json.dumps(value, ensure_ascii=False).encode()
    count = JsonCost()
    count.add(text)
    assert size(json.loads(text * 1)) <= 4 * (count.parsed + len(text)) + 300


def test_bodies_on_their_way_have_one_budget_together(checkpoint_folder: Path) -> None:
    """Refused at once where there is no room, and a small request of another caller always finds some."""
    budget = 4 << 20
    settings = Settings(checkpoint=checkpoint_folder, memory_budget_bytes=budget, api_keys=f"{'a' * 32},{'b' * 32}")
    with serving(settings) as running, ExitStack() as stack:
        head = asking("/tokenize", b"").replace(b"Length: 0", b"Length: 8000000")
        head = head.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer " + b"a" * 32 + b"\r\n\r\n")
        held = []
        for _ in range(20):
            client = stack.enter_context(connected(running))
            client.sendall(head + b'{"prompt": "' + b"a" * 500_000)
            held.append(client)
        ledger = running.ledger
        assert eventually(lambda: ledger.refused > 0 and ledger.held > budget // 4)
        assert ledger.most <= budget // 2 + 100_000
        assert eventually(lambda: bool(select.select(held, [], [], 0)[0]))  # the count rises before the answer is sent
        refused = next(one for one in map(first_answer, held) if one is not None)
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert refused.error["code"] == "out_of_memory"
        other = {"Authorization": f"Bearer {'b' * 32}"}
        assert running.client.post("/tokenize", json={"prompt": "a" * 9_000}, headers=other).status_code == 200
        health = running.client.get("/health", headers=other).json()
        assert health["memory"]["budget_bytes"] == budget
        assert health["memory"]["held_bytes"] > 0
        assert "unroll_memory_held_bytes" in running.client.get("/metrics", headers=other).text
        stack.close()
        assert eventually(lambda: ledger.held == 0)


def first_answer(client: socket.socket) -> Answer | None:
    """What a client that still sends is answered; None while it is only listened to."""
    readable, _, _ = select.select([client], [], [], 0)
    return answer(client) if readable else None
