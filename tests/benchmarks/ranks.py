"""Training and measuring by two processes of one thread against one process of one thread and of two, side by side."""

from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.benchmarks.figures import Figure
from tests.benchmarks.rank_workers import Exchange, Place, Steps, Workers, workers
from tests.benchmarks.timing import ratio
from tests.ports import free_port

SIZES = (320, 512)  # units of each of two layers
ROUNDS, STEPS = 5, 16
MEASURINGS = 2
TWO_THREADS, ONE_THREAD = 1.0, 1.6  # times as fast as these, at least


def measure() -> list[Figure]:
    """For each size of the network: characters a second, and ratios of the rounds' medians."""
    return [figure for hidden in SIZES for figure in _measure(hidden)]


def _measure(hidden: int) -> list[Figure]:
    port = free_port()
    with ExitStack() as stack:
        alone = stack.enter_context(workers([Place()], hidden))
        threads = stack.enter_context(workers([Place()], hidden, threads=2))
        ranks = stack.enter_context(workers([Place(number, 2, port=port) for number in range(2)], hidden))
        kinds = {
            "1 process of 1 thread": (alone, Steps(STEPS)),
            "1 process of 2 threads": (threads, Steps(STEPS)),
            "2 processes": (ranks, Steps(STEPS)),
            "2 processes, bf16 between": (ranks, Steps(STEPS, compression="bf16")),
            "2 processes, 4 windows a step": (ranks, Steps(STEPS // 4, accumulate=4)),
        }
        speeds: dict[str, list[float]] = {name: [] for name in kinds}
        for round_ in range(ROUNDS + 1):
            for name, (who, steps) in kinds.items():
                speed = who.take(steps)
                if round_:  # the first makes kernels and buffers
                    speeds[name].append(speed)
        exchanges = [[ranks.exchange(Exchange(STEPS, sockets)) for _ in range(ROUNDS)] for sockets in (True, False)]
        measuring = _measuring(hidden, alone, threads, ranks) if hidden == SIZES[0] else []
    title = f"training 2 × {hidden}"
    one, two, both = (speeds[name] for name in ("1 process of 1 thread", "1 process of 2 threads", "2 processes"))
    return [
        *(Figure(f"{title}, {name}", median(found), "characters/s") for name, found in speeds.items()),
        Figure(f"{title}, 2 processes against 2 threads", ratio(both, two), "×", TWO_THREADS),
        Figure(f"{title}, 2 processes against 1 thread", ratio(both, one), "×", ONE_THREAD),
        Figure(f"{title}, adding up a gradient by sockets", 1e3 * min(exchanges[0]), "ms"),
        Figure(f"{title}, adding up a gradient in shared memory", 1e3 * min(exchanges[1]), "ms"),
        *measuring,
    ]


def _measuring(hidden: int, alone: Workers, threads: Workers, ranks: Workers) -> list[Figure]:
    """What the figures of a run take, in which cold windows have two seconds for any number of processes."""
    seconds: list[list[float]] = [[], [], []]
    windows: list[list[float]] = [[], [], []]
    with TemporaryDirectory() as folder:
        for _ in range(MEASURINGS):
            for who, took, read in zip((alone, threads, ranks), seconds, windows, strict=True):
                characters, spent = who.measure(Path(folder))
                took.append(spent)
                read.append(characters)
    title = f"measuring 2 × {hidden}"
    return [
        Figure(f"{title}, 1 process of 1 thread", median(seconds[0]), "s"),
        Figure(f"{title}, 1 process of 2 threads", median(seconds[1]), "s"),
        Figure(f"{title}, 2 processes", median(seconds[2]), "s"),
        Figure(f"{title}, 2 processes against 2 threads", ratio(seconds[1], seconds[2]), "×"),
        Figure(f"{title}, 2 processes against 1 thread", ratio(seconds[0], seconds[2]), "×"),
        Figure(f"{title}, cold windows in 2 s, 2 processes against 1 thread", ratio(windows[2], windows[0]), "×"),
    ]
