"""A caller gets what the settings allow and no more, beside any other callers."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.security.rate_limit import MOST_CALLERS, OwnRequests, RateLimiter
from service.settings import Settings
from tests.service.serving import ENDLESS, Running, SlowDecoder, eventually, serving

KEY, OTHER = "k" * 32, "o" * 32


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    per_minute=st.integers(1, 600),
    gaps=st.lists(st.floats(0, 20), max_size=300),
)
def test_no_minute_takes_more_than_two_minutes_worth_and_the_long_run_no_more_than_its_own(
    per_minute: int, gaps: list[float]
) -> None:
    clock = Clock()
    use = RateLimiter(per_minute, 0, clock)
    taken: list[float] = []
    for gap in gaps:
        clock.now += gap
        if not use.wait("a"):
            taken.append(clock.now)
    for at in taken:
        assert sum(at <= other < at + 60 for other in taken) <= 2 * per_minute
    if taken:
        assert len(taken) <= per_minute + (taken[-1] - taken[0]) / 60 * per_minute + 1


@given(per_minute=st.floats(0.1, 100_000), spent=st.integers(0, 50))
def test_who_waits_as_long_as_told_is_taken(per_minute: float, spent: int) -> None:
    clock = Clock()
    use = RateLimiter(per_minute, 0, clock)
    for _ in range(spent):
        use.wait("a")
    seconds = use.wait("a")
    clock.now += seconds
    assert seconds == 0 or use.wait("a") == 0


def test_one_caller_does_not_use_up_what_is_anothers() -> None:
    use = RateLimiter(2, 1, Clock())
    assert [use.wait("a") for _ in range(3)] == [0, 0, 30]
    assert use.wait("b") == 0
    assert use.enter("a")
    assert not use.enter("a")
    assert use.enter("b")
    use.leave("a")
    assert use.enter("a")


def test_no_limit_is_none() -> None:
    use = RateLimiter(0, 0, Clock())
    assert all(use.wait("a") == 0 and use.enter("a") for _ in range(10_000))


def test_callers_without_end_are_forgotten() -> None:
    requests = OwnRequests()
    use = RateLimiter(1, 1, Clock(), requests)
    for number in range(MOST_CALLERS + 10):
        assert use.wait(number) == 0
        assert use.enter(number)
        use.leave(number)
    assert len(requests._earned) == MOST_CALLERS
    assert not requests._counts
    assert use.wait(MOST_CALLERS) > 0


@pytest.fixture
def sparing(checkpoint_folder: Path) -> Iterator[Running]:
    settings = Settings(
        checkpoint=checkpoint_folder, api_keys=f"{KEY},{OTHER}", key_requests_per_minute=3, key_concurrent_requests=2
    )
    with serving(settings, SlowDecoder) as running:
        yield running


def ask(running: Running, key: str, **fields: object) -> httpx.Response:
    body = {"prompt": "a", "max_tokens": 1, **fields}
    return httpx.post(f"{running.url}/v1/completions", json=body, headers={"Authorization": f"Bearer {key}"})


def test_a_key_may_make_so_many_requests_a_minute(sparing: Running) -> None:
    assert [ask(sparing, KEY).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = ask(sparing, KEY)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert ask(sparing, OTHER).status_code == 200
    assert httpx.get(f"{sparing.url}/health/ready").status_code == 200


def test_a_key_may_have_so_many_requests_open_streams_included(sparing: Running) -> None:
    long = {"prompt": "a", "max_tokens": ENDLESS, "stream": True}
    headers = {"Authorization": f"Bearer {KEY}"}
    with (
        httpx.Client(base_url=sparing.url) as client,
        client.stream("POST", "/v1/completions", json=long, headers=headers),
        client.stream("POST", "/v1/completions", json=long, headers=headers),
    ):
        refused = ask(sparing, KEY)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "too_many_open_requests"
        assert refused.headers["retry-after"] == "1"
        assert ask(sparing, OTHER).status_code == 200
    assert eventually(lambda: ask(sparing, KEY).status_code == 200)


def test_addresses_are_counted_where_there_are_no_keys(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder, key_requests_per_minute=2)) as running:
        assert [running.client.get("/v1/models").status_code for _ in range(3)] == [200, 200, 429]
        forwarded = {"X-Forwarded-For": "192.0.2.7"}
        assert running.client.get("/v1/models", headers=forwarded).status_code == 429  # anybody can claim an address
    proxied = Settings(checkpoint=checkpoint_folder, key_requests_per_minute=1, trusted_proxies="127.0.0.1")
    with serving(proxied) as running:
        for address in ("192.0.2.7", "192.0.2.8"):
            statuses = [
                running.client.get("/v1/models", headers={"X-Forwarded-For": address}).status_code for _ in range(2)
            ]
            assert statuses == [200, 429]
