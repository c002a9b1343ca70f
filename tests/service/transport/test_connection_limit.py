"""Connections beyond the limit: each is answered with an error, and probes still get through."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from service.transport import connections, shared_limits
from service.transport.connection_limit import ConnectionLimit
from tests.service.raw_client import Answer, answer, asking, connected, rest
from tests.service.serving import Running, eventually, serving
from tests.service.taking import fill, taken

PROBE = asking("/health")
MINUTE = 60.0  # seconds: a limit no test reaches


@pytest.fixture
def small(checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server of two connections, with two more for probes and two more that are answered with an error."""
    monkeypatch.setattr(shared_limits, "PROBE_CONNECTIONS", 2)
    monkeypatch.setattr(shared_limits, "REFUSED_CONNECTIONS", 2)
    with serving(Settings(checkpoint=checkpoint_folder, max_connections=2, header_seconds=MINUTE)) as running:
        running.client.close()
        yield running


def check_crowded(refused: Answer) -> None:
    assert refused.status == 503
    assert refused.headers["retry-after"] == "5"
    assert refused.headers["connection"] == "close"
    assert refused.error["code"] == "too_many_connections"
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_a_connection_too_many_is_told_so_while_probes_get_through(small: Running) -> None:
    with ExitStack() as stack:
        first, _ = fill(small, stack, 2)
        with connected(small) as spare:
            spare.sendall(PROBE)
            assert answer(spare).status == 200
            spare.sendall(asking("/v1/completions", prompt="a"))
            check_crowded(answer(spare))
            assert rest(spare) == b""
        with connected(small) as spare:
            spare.sendall(PROBE)
            assert answer(spare).status == 200
            first.close()
            assert eventually(lambda: taken(small) == 2)
            spare.sendall(asking("/v1/completions", prompt="a"))
            assert answer(spare).status == 200


def test_spare_connections_are_free_again_after_a_second(small: Running) -> None:
    with ExitStack() as stack:
        *_, spare, _ = fill(small, stack, 4)
        with connected(small) as refused:  # without a word
            check_crowded(answer(refused))
            assert rest(refused) == b""
        assert answer(spare).error["code"] == "headers_too_slow"  # long before a minute is over
        spare.close()
        assert eventually(lambda: taken(small) <= 3)
        with connected(small) as probe:
            probe.sendall(PROBE)
            assert answer(probe).status == 200


def test_a_probe_gets_through_however_many_say_nothing(small: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that comes beyond all limits cuts off one that says nothing, the oldest first; no time is over here."""
    monkeypatch.setattr(connections, "PROBE_SECONDS", MINUTE)
    monkeypatch.setattr(connections, "CROWDED_SECONDS", MINUTE)
    with ExitStack() as stack:
        fill(small, stack, 2)
        for _ in range(40):
            stack.enter_context(connected(small))
        with connected(small) as probe:
            probe.sendall(asking("/health/live"))
            assert answer(probe).status == 200
        assert eventually(lambda: taken(small) <= 6)
        for _ in range(10):  # and those that said something before are no better
            asked = stack.enter_context(connected(small))
            asked.sendall(asking("/health/live"))
            assert answer(asked).status == 200
        assert eventually(lambda: taken(small) <= 6)


def test_an_address_has_so_many_connections_and_others_have_theirs(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, max_address_connections=3)
    with serving(settings) as running, ExitStack() as stack:
        running.client.close()
        fill(running, stack, 3)
        with connected(running) as one:
            one.sendall(asking("/health/live"))
            assert answer(one).status == 200
            one.sendall(asking("/v1/models"))
            refused = answer(one)
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            assert refused.error["code"] == "too_many_connections"
        with connected(running, source="127.0.0.2") as other:
            other.sendall(asking("/v1/models"))
            assert answer(other).status == 200
    proxied = Settings(checkpoint=checkpoint_folder, max_address_connections=1, trusted_proxies="127.0.0.0/8")
    with serving(proxied) as running, ExitStack() as stack:
        fill(running, stack, 3)
        with connected(running) as one:
            one.sendall(asking("/v1/models"))
            assert answer(one).status == 200


def test_the_management_port_tells_of_health_and_metrics_while_the_other_is_crowded(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, max_connections=2, header_seconds=MINUTE)
    with serving(settings, management=True) as running, ExitStack() as stack:
        fill(running, stack, 30)
        assert running.management is not None
        with httpx.Client(base_url=running.management) as operator:
            for path in ("/health", "/health/live", "/health/ready", "/metrics"):
                assert operator.get(path).status_code == 200
            assert operator.get("/v1/models").status_code == 404
            assert operator.post("/v1/completions", json={"prompt": "a"}).json()["error"]["code"] == "not_found"


def test_a_refusal_is_quick_and_its_connection_soon_forgotten(small: Running) -> None:
    """In processor time, the client's included, which a busy machine does not stretch."""
    with ExitStack() as stack:
        fill(small, stack, 2)
        began = time.process_time()
        for _ in range(20):
            with connected(small) as refused:
                refused.sendall(asking("/v1/completions", prompt="a"))
                check_crowded(answer(refused))
            assert eventually(lambda: taken(small) == 2)
        assert (time.process_time() - began) / 20 < 0.01


def test_a_network_is_full_with_as_many_as_it_may_have() -> None:
    limit = ConnectionLimit(10, 2, 10, lambda address: address == "127.0.0.9")
    for at in range(2):
        limit.enter(Silent(), f"2001:db8::{at}")
        limit.enter(Silent(), "127.0.0.9")
    limit.enter(Silent(), "127.0.0.1")
    full = [limit.full(limit.network(one)) for one in ("2001:db8::ff", "127.0.0.1", "127.0.0.9", "127.0.0.2")]
    assert full == [True, False, False, False]
    assert limit.full(None)


class Silent:
    """A connection."""

    def cut_off(self) -> None:
        raise AssertionError("there is room for it")
