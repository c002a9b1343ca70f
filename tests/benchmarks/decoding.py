"""A step of the bundled model without sampling: against the machine's own limits, and against ONNX Runtime."""

from collections.abc import Callable
from statistics import median

import numpy as np

from model.checkpoint import BUNDLED, Checkpoint, load
from model.decoding.decoder import NUMPY, Decoder
from model.decoding.kernel_library import processors
from model.decoding.step_weights import StepWeights
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from tests.benchmarks.figures import Figure, counted
from tests.benchmarks.onnx_step import integer_product, onnx_step
from tests.benchmarks.timing import mean_seconds, ratio, side_by_side

ROUNDS = 15
SIDE_SECONDS = 0.02  # about how long one side of a pair runs before it is the turn of the other
SHAPES = ((128, 512, 2048), (128, 1024, 2048), (512, 1024, 2048), (512, 2048, 2048), (1024, 2048, 4096))


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """The seconds of a call, as a run of `side_by_side`: the mean of as many as take about a fiftieth of a second."""
    run()
    calls = max(3, int(SIDE_SECONDS / mean_seconds(run, 3)))
    return lambda: mean_seconds(run, calls)


def weights_read_once(checkpoint: Checkpoint) -> list[Figure]:
    """One row, whose step has to read all int8 matrices, against reading as many bytes and doing nothing with them.

    Two readers are tried and the faster one counts: numpy's largest uint8, 64 at a time, and bytes.find of a byte that
    is not there, the C library's memchr. Both run over the same bytes again and again, as steps do over the weights.
    The bytes were written before: memory that never was is one page of zeros, which the first-level cache holds.
    """
    weights = StepWeights.of(checkpoint, checkpoint.seen(), "int8")
    size = sum(layer.recurrent.matrix.nbytes for layer in weights.layers) + weights.out.matrix.nbytes
    numbers = np.random.default_rng().integers(1, 256, size, np.uint8)
    copied = numbers.tobytes()
    largest, find = timed(numbers.max), timed(lambda: copied.find(0))
    ours, one, other = side_by_side([timed(bare_step(checkpoint, 1)), largest, find], ROUNDS)
    fastest = min(one, other, key=median)
    return [
        Figure("bare decoder, 1 row", 1e6 * median(ours), "µs a step"),
        Figure("reading as many bytes as its weights have", 1e6 * median(fastest), "µs"),
        Figure("bare decoder, 1 row, against reading its weights once", ratio(ours, fastest), "× time", 2.0, "most"),
    ]


def products_a_second(checkpoint: Checkpoint) -> list[Figure]:
    """128 rows, whose step is bound by arithmetic, against the best of some large products by ONNX Runtime.

    What counts are multiply-adds of the int8 matrices alone; the cells and the rest of a step are overhead.
    """
    rows = 128
    weights = StepWeights.of(checkpoint, checkpoint.seen(), "int8")
    one = sum(layer.recurrent.matrix.size for layer in weights.layers) + weights.out.matrix.size
    products = [timed(integer_product(*shape)) for shape in SHAPES]
    ours, *theirs = side_by_side([timed(bare_step(checkpoint, rows)), *products], ROUNDS)
    rates = [[m * k * n / seconds for seconds in times] for (m, k, n), times in zip(SHAPES, theirs, strict=True)]
    best = max(rates, key=median)
    rate = [rows * one / seconds for seconds in ours]
    shape = " × ".join(map(str, SHAPES[rates.index(best)]))
    return [
        Figure("bare decoder, 128 rows", median(rate) / 1e9, "G multiply-adds/s"),
        Figure(f"ONNX Runtime, best large MatMulInteger, {shape}", median(best) / 1e9, "G multiply-adds/s"),
        Figure("bare decoder, 128 rows, against that product", ratio(rate, best), "× rate", 0.65),
    ]


def against_onnx(checkpoint: Checkpoint) -> list[Figure]:
    """Our step against a graph of the same step in ONNX Runtime: why we have a kernel of our own."""
    figures = []
    for rows in (1, 8, 32, 128):
        ours, theirs = side_by_side([timed(bare_step(checkpoint, rows)), timed(onnx_step(checkpoint, rows))], ROUNDS)
        figures += [
            Figure(f"bare decoder, {counted(rows, 'row')}", rows / median(ours), "characters/s"),
            Figure(f"the same step in ONNX Runtime, {counted(rows, 'row')}", rows / median(theirs), "characters/s"),
            Figure(f"bare decoder against ONNX Runtime, {counted(rows, 'row')}", ratio(theirs, ours), "×"),
        ]
    return figures


def by_processor(checkpoint: Checkpoint) -> list[Figure]:
    """Drawing with each kernel this machine can run, and with numpy alone."""
    figures = []
    for rows in (1, 32):
        drawing = [timed(DrawStep(Decoder(checkpoint, processor=name), rows)) for name in (*processors(), NUMPY)]
        times = side_by_side(drawing, 5)
        for name, seconds in zip((*processors(), NUMPY), times, strict=True):
            figures.append(Figure(f"drawing, {name}, {counted(rows, 'row')}", rows / median(seconds), "characters/s"))
    return figures


class DrawStep:
    """One step with sampling, in a call of its own; at temperature 0 hardly more than the bare step."""

    def __init__(self, decoder: Decoder, rows: int, temperature: float = 1.0) -> None:
        self._decoder = decoder  # owns the weights
        self._rows = decoder.rows(rows)
        self._slots = np.arange(rows, dtype=np.int32)
        for slot in range(rows):
            parameters = SamplingParameters(seed=slot, temperature=temperature)
            self._rows.set(slot, RowSampling(parameters, decoder.ids, np.zeros(0, np.int64)), int(decoder.ids[-1]))

    def __call__(self) -> None:
        """Draw one id per row."""
        self._rows.draw(self._slots, 1)


def bare_step(checkpoint: Checkpoint, rows: int) -> DrawStep:
    """One step that takes the likeliest id, in int8 by the best kernel there is."""
    return DrawStep(Decoder(checkpoint), rows, temperature=0)


def measure() -> list[Figure]:
    """One thread for everyone; the pairs stand side by side in time."""
    checkpoint = load(BUNDLED)
    return [
        *weights_read_once(checkpoint),
        *products_a_second(checkpoint),
        *against_onnx(checkpoint),
        *by_processor(checkpoint),
    ]
