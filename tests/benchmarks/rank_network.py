"""Training by two processes in two network namespaces, between which there is 1 Gb/s, as between two machines."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from statistics import median

from tests.benchmarks.figures import Figure
from tests.benchmarks.rank_workers import Place, Steps, workers
from tests.benchmarks.timing import ratio, side_by_side

SIZES = (320, 512)  # units of each of two layers
ROUNDS, STEPS = 4, 16
RATE, BURST = "1gbit", "128kb"
PORT = 29_600

KINDS = {
    "fp32": Steps(STEPS),
    "bf16": Steps(STEPS, compression="bf16"),
    "4 windows a step": Steps(STEPS // 4, accumulate=4),
    "4 windows a step, bf16": Steps(STEPS // 4, accumulate=4, compression="bf16"),
}


def measure() -> list[Figure]:
    """Characters a second across the network, and what is left of those of two processes on one machine."""
    return [figure for hidden in SIZES for figure in _measure(hidden)]


def _measure(hidden: int) -> list[Figure]:
    near = [Place(number, 2, port=PORT + 1) for number in range(2)]
    with (
        two_namespaces() as names,
        workers([Place()], hidden) as alone,
        workers(near, hidden) as together,
        workers(_places(names), hidden) as apart,
    ):
        runs = [lambda: alone.take(Steps(STEPS)), lambda: together.take(Steps(STEPS))]
        runs += [lambda steps=steps: apart.take(steps) for steps in KINDS.values()]  # type: ignore[misc]
        one, near_speed, *found = side_by_side(runs, ROUNDS)
    title = f"training 2 × {hidden}"
    return [
        Figure(f"{title}, 1 process of 1 thread", median(one), "characters/s"),
        Figure(f"{title}, 2 processes on one machine", median(near_speed), "characters/s"),
        *(
            figure
            for kind, speeds in zip(KINDS, found, strict=True)
            for figure in (
                Figure(f"{title}, 2 processes over {RATE}, {kind}", median(speeds), "characters/s"),
                Figure(f"{title}, the same against 1 process", ratio(speeds, one), "×"),
            )
        ),
    ]


def _places(names: tuple[str, str]) -> list[Place]:
    return [Place(number, 2, "10.79.0.1", PORT, name, "eth0") for number, name in enumerate(names)]


@contextmanager
def two_namespaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces joined by a pair of interfaces, each of which lets 1 Gb/s out; they end with the context.

    Only root may make them: ends the program with a sentence where that is refused.
    """
    names = "unroll-0", "unroll-1"
    _remove(names)  # those of a benchmark that was killed
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for number, name in enumerate(names):
            _ip("-n", name, "address", "add", f"10.79.0.{number + 1}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "eth0", "up")
            bucket = "tbf", "rate", RATE, "burst", BURST, "latency", "50ms"
            _run("tc", "-n", name, "qdisc", "add", "dev", "eth0", "root", *bucket)
        yield names
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"The network of two machines cannot be made ({error}); be root, and install iproute2.")
    finally:
        _remove(names)


def _remove(names: Sequence[str]) -> None:
    for name in names:
        with suppress(OSError):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
