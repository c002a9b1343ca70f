"""Keys, states, limits and cancelling through the balancer, held against one server."""

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import Figure
from tests.load.replica_set import KEY, Replica, ReplicaSet, ask, at_server

PATH = "/v1/completions"
ADDED, STRANGE = "added-key-of-enough-characters", "strange-key-of-enough-characters"
A_MINUTE = 10
MANY = 20  # requests through the balancer, so that each server gets some
SHORT: dict[str, Any] = {"model": "one", "prompt": "a", "max_tokens": 1, "seed": 1}


def as_with_one(servers: ReplicaSet, alone: Callable[[dict[str, Any]], str], keys: Path) -> list[Figure]:
    """The figures of all laws.

    alone: the text that one server writes for a body. keys: the servers' file.
    """
    pairs = len(servers.replicas) ** 2
    return [
        Figure("states taken by another server, with the bytes of one text", _states(servers, alone), "of 16", pairs),
        Figure("a strange key, each time 401", _strange(servers), "requests", MANY),
        Figure("servers that take an added key and refuse a removed one", _changed(servers, keys), "servers", 4),
        Figure("refusals that are those of one server", _refusals(servers), "of 2", 2),
        Figure("a client that goes: servers without a text after it", _gone(servers), "servers", 4),
        *_a_minute(servers),
    ]


def _states(servers: ReplicaSet, alone: Callable[[dict[str, Any]], str]) -> int:
    """How many pairs of servers write one text together, the second from the first one's state."""
    right = 0
    for at, first in enumerate(servers.replicas):
        for second in servers.replicas:
            body: dict[str, Any] = {"model": "one", "prompt": f"Scene {at}.\n", "seed": at}
            said = at_server(first, PATH, {**body, "max_tokens": 80, "return_state": True})[1]["choices"][0]
            rest = {**body, "prompt": "", "max_tokens": 120, "state": said["state"]}
            after = at_server(second, PATH, rest)[1]["choices"][0]
            right += said["text"] + after["text"] == alone({**body, "max_tokens": 200})
    return right


def _strange(servers: ReplicaSet) -> int:
    return sum(ask(servers.balancer.port, PATH, SHORT, STRANGE)[0] == 401 for _ in range(MANY))


def _changed(servers: ReplicaSet, keys: Path) -> int:
    """Take a key away and add another, for all servers."""
    before = [at_server(one, PATH, SHORT, KEY)[0] for one in servers.replicas]
    keys.write_text(f"{ADDED}\n")
    for one in servers.replicas:
        one.hang_up()
    time.sleep(1)
    after = [(at_server(one, PATH, SHORT, ADDED)[0], at_server(one, PATH, SHORT, KEY)[0]) for one in servers.replicas]
    keys.write_text(f"{KEY}\n{ADDED}\n")
    for one in servers.replicas:
        one.hang_up()
    time.sleep(1)
    return sum(old == 200 and new == (200, 401) for old, new in zip(before, after, strict=True))


def _refusals(servers: ReplicaSet) -> int:
    """Bodies that are too large or ask for too much: the balancer's answer is that of a server."""
    bodies = [{**SHORT, "prompt": "a" * (8 << 20)}, {**SHORT, "max_tokens": 1 << 40}]
    right = 0
    for body in bodies:
        through, direct = ask(servers.balancer.port, PATH, body, KEY), at_server(servers.replicas[0], PATH, body)
        right += through[:2] == direct[:2] and through[0] in (400, 413)
    return right


def _gone(servers: ReplicaSet) -> int:
    """How many servers have no text some seconds after the client of an endless one has gone."""
    connection = http.client.HTTPConnection("127.0.0.1", servers.balancer.port, timeout=30)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    connection.request("POST", PATH, json.dumps({**SHORT, "max_tokens": 100_000, "stream": True}), headers)
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"a stream was refused: {answer.read().decode()}")
    answer.read1(100)
    if sum(map(_texts, servers.replicas)) != 1:
        raise RuntimeError("an endless text was not running")
    answer.close()
    connection.close()
    deadline = time.monotonic() + 5
    while any(map(_texts, servers.replicas)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return sum(not _texts(replica) for replica in servers.replicas)


def _texts(replica: Replica) -> int:
    said = at_server(replica, "/health")[1]
    return int(said["running"]) + int(said["waiting"])


def _a_minute(servers: ReplicaSet) -> list[Figure]:
    """Requests a minute of a key: at one server, then of another key through the balancer."""
    for replica in servers.replicas:
        assert replica.process is not None
        replica.process.kill()
        replica.process.wait()
        replica.flags = [*replica.flags, "--key-requests-per-minute", str(A_MINUTE)]
        replica.start()
    for replica in servers.replicas:
        replica.wait()
    time.sleep(2.5)  # nginx looks for them again
    one = [at_server(servers.replicas[0], PATH, SHORT, KEY) for _ in range(2 * A_MINUTE)]
    count = len(servers.replicas)
    together = [ask(servers.balancer.port, PATH, SHORT, ADDED) for _ in range(2 * A_MINUTE * count)]
    taken, taken_together = (sum(status == 200 for status, *_ in answers) for answers in (one, together))
    refused = [after for answers in (one, together) for status, _, after in answers if status == 429]
    odd = 2 * A_MINUTE * (count + 1) - taken - taken_together - len(refused) + refused.count(None)
    name = f"{A_MINUTE} requests a minute of a key"
    return [
        Figure(f"{name}: taken by one server at once", taken, "requests", A_MINUTE),
        Figure(f"{name}: taken by {count} servers against one", taken_together / taken, "×", count + 0.5, "most"),
        Figure(
            f"{name}: refused otherwise than by 429 with Retry-After",
            odd,
            "requests",
            0,
            "most",
        ),
    ]
