"""Training by two processes of one thread against one process of one thread and of two, side by side."""

from contextlib import ExitStack
from statistics import median

from tests.benchmarks.figures import Figure
from tests.benchmarks.rank_workers import Place, Steps, free_port, workers
from tests.benchmarks.timing import ratio

SIZES = (320, 512)  # units of each of two layers
ROUNDS, STEPS = 5, 16
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
    title = f"training 2 × {hidden}"
    one, two, both = (speeds[name] for name in ("1 process of 1 thread", "1 process of 2 threads", "2 processes"))
    return [
        *(Figure(f"{title}, {name}", median(found), "characters/s") for name, found in speeds.items()),
        Figure(f"{title}, 2 processes against 2 threads", ratio(both, two), "×", TWO_THREADS),
        Figure(f"{title}, 2 processes against 1 thread", ratio(both, one), "×", ONE_THREAD),
    ]
