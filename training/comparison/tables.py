"""The figures of a comparison as sections of tables and charts, from its parts as compare.json has them."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from training.comparison.memory_tasks import DELAYS, REACHED, SYMBOLS, TASKS
from training.report.comparison import ComparisonTable, Section
from training.report.curves import Chart, Series
from training.report.elements import number

STYLES = ("train", "validation", "plain")
BITS = ("validation_carried", "validation_cold", "test_carried", "test_cold")
SOFTWARE = {
    "bf16": "Trained in bf16, where the LSTM alone has a kernel of its own: equal time favours it. --precision fp32 "
    "trains all cells alike, by PyTorch.",
    "fp32": "Trained in fp32, all cells by PyTorch.",
}
MEMORY = ("validation_carried", "validation_memory", "test_carried", "test_memory")


def sections(written: dict[str, Any]) -> list[Section]:
    """All sections, in the order of the essay's table: handling of sequences, efficiency, memory; then stability."""
    return [_sequences(written), _efficiency(written), _memory(written), _stability(written)]


def _sequences(written: dict[str, Any]) -> Section:
    plan = written["plan"]
    tables = [*_bits(written, "steps", f"Equal steps: {plan['steps']:,} each")]
    if plan["seconds"] is not None:
        tables += _bits(written, "time", f"Equal time: {plan['seconds']:.1f} seconds each")
    contexts = {cell: _over_seeds(written, cell, "context") for cell in plan["networks"]}
    lengths = list(next(iter(contexts.values())))
    rows = [(cell, *(_bit(bits[length]) for length in lengths)) for cell, bits in contexts.items()]
    title = "Bits of a character by how many before it are known (validation, median over seeds)"
    tables.append(ComparisonTable(title, ("cell", *lengths), rows))
    words = (
        "Bits per character of held-out text: median over the seeds, and in brackets the lowest and the highest. "
        "Carried: read in one pass with the state carried on. Cold: windows of 256 characters, each from a zero state. "
        f"{written['plan']['scored']:,} ids of each part are scored at most. Lower is better. With the online memory: "
        "carried, and what followed the last ids earlier in the same sequence mixed in, with weights fitted on the "
        f"beginning of validation; it needs no training. {SOFTWARE[plan['precision']]}"
    )
    chart = _chart(
        title,
        "characters known, powers of two",
        "bits per character",
        {cell: [(math.log2(int(n)), b) for n, b in bits.items()] for cell, bits in contexts.items()},
    )
    return Section("sequences", "Sequence handling", words, tables, chart)


def _bits(written: dict[str, Any], kind: str, title: str) -> list[ComparisonTable]:
    """The bits of each cell, and those with the online memory beside it."""
    head = ("cell", "width", "parameters", "steps", *(name.replace("_", ", ") for name in BITS))
    rows, remembered = [], []
    for cell, network in written["plan"]["networks"].items():
        runs = _runs(written, kind, cell)
        steps = median(run["figures"]["stability"]["steps"] for run in runs)
        bits = [_spread([run["figures"]["bits"].get(name) for run in runs]) for name in BITS]
        rows.append((cell, str(network["hidden"]), f"{network['parameters']:,}", f"{steps:,.0f}", *bits))
        remembered.append((cell, *(_spread([run["figures"]["bits"].get(name) for run in runs]) for name in MEMORY)))
    names = ("cell", "validation, alone", "validation, with memory", "test, alone", "test, with memory")
    return [
        ComparisonTable(title, head, rows),
        ComparisonTable(f"{title.partition(':')[0]}, with the online memory", names, remembered),
    ]


def _efficiency(written: dict[str, Any]) -> Section:
    part, length = written["parts"]["efficiency"], written["parts"]["length"]
    head = (
        "cell",
        "multiply-adds",
        "state, bytes",
        "training, MB",
        "train × 1",
        "train × 32",
        "serve × 1",
        "serve × 32",
    )
    speeds = ("training_1", "training_32", "serving_1", "serving_32")
    rows = [
        (
            cell,
            f"{one['multiply_adds']:,}",
            f"{one['state_bytes']:,}",
            f"{one['training_bytes'] / 1e6:.1f}",
            *(number(part["times"][cell][name]) for name in speeds),
        )
        for cell, one in part["figures"].items()
    ]
    costs = ComparisonTable("Of a character, and characters a second with 1 and 32 rows", head, rows)
    lengths = sorted({int(n) for one in length["times"].values() for n in (*one["seconds"], *one["extrapolated"])})
    lengths = [n for n in lengths if math.log10(n) % 1 < 1e-9]
    curve = [
        (name, *(_seconds(one, n) for n in lengths), f"{one['exponent']:.2f}") for name, one in length["times"].items()
    ]
    by_length = ComparisonTable(
        "Seconds of a text by its length in characters", ("", *(f"{n:,}" for n in lengths), "exponent"), curve
    )
    attention = length["figures"]["attention"]
    words = (
        "Multiply-adds and state are counted; memory of training, too: weights, gradients, moments, and what a window "
        f"of {written['plan']['batch_size']} × {written['plan']['sequence_length']} keeps for the way back in fp32. "
        "Speeds are the best of three rounds in which all cells take turns; serving is the int8 decoder on one thread. "
        "The exponent is that of a power of the length through the last three measured lengths: 1 is a cost that grows "
        f"with the length. Attention is one plain layer of one head, {attention['width']} wide, "
        f"{attention['parameters']:,} parameters, in PyTorch; without a cache it is summed from steps timed at some "
        "lengths. ≈ marks what was not measured and is extrapolated with the exponent."
    )
    return Section("efficiency", "Efficiency", words, [costs, by_length])


def _memory(written: dict[str, Any]) -> Section:
    cells, parts = list(written["plan"]["networks"]), written["parts"]
    tables = []
    for task in TASKS:
        rows = []
        for cell in cells:
            if (name := f"memory-{task}-{cell}") not in parts:  # of the hybrid, whose attention points at characters
                continue
            one = parts[name]["figures"]
            shares = [f"{one['delays'][str(delay)]['share']:.1%}" for delay in DELAYS]
            rows.append((cell, str(one["hidden"]), *shares, str(one["reached"]) if one["reached"] else "none"))
        chance = "0 %" if TASKS[task].outputs == 1 else f"{1 / SYMBOLS:.1%}"
        what = "variance explained" if TASKS[task].outputs == 1 else "answers right"
        title = f"{task.capitalize()}: {what} after a delay; who remembers nothing has {chance}"
        head = ("cell", "width", *map(str, DELAYS), f"reached, ≥ {REACHED:.0%}")
        tables.append(ComparisonTable(title, head, rows))
    lives = []
    for cell in cells:
        found = [run["figures"]["half_life"] for run in _runs(written, "steps", cell) if "half_life" in run["figures"]]
        if found:
            lives.append(
                (cell, *(_life([one[what] for one in found], found[0]["reach"]) for what in ("gradient", "state")))
            )
    tables.append(ComparisonTable("Half-life in characters, on the corpus", ("cell", "gradient", "state"), lives))
    words = (
        "Copy: ten symbols of eight are repeated after a delay. Recall: the first of many random symbols is asked for "
        "at the end. Adding: the sum of two marked numbers. One network for each cell and task learns the shortest "
        f"delay first and goes on from there, for the same number of steps ({written['plan']['task_steps']:,} times 6, "
        "3, 2, 1 and a half). Half-lives are of the networks of equal steps, median over the seeds: after how many "
        "characters half is left of the gradient that reaches what was read, and of the difference that the state "
        "makes to what is predicted, each of its value after one character."
    )
    return Section("memory", "Memory retention", words, tables)


def _stability(written: dict[str, Any]) -> Section:
    rows = []
    for cell in written["plan"]["networks"]:
        for name, runs in (
            ("clipped at 1", _runs(written, "steps", cell)),
            ("not clipped", [written["parts"][f"unclipped-{cell}"]]),
        ):
            found = [run["figures"]["stability"] for run in runs]
            test = median_of([run["figures"]["bits"].get("validation_carried") for run in runs])
            rows.append(
                (
                    cell,
                    name,
                    *(
                        number(median_of([one[key] for one in found]), ".3g")
                        for key in ("median_norm", "norm_99", "largest_norm")
                    ),
                    f"{sum(one['clipped'] for one in found) / max(1, sum(one['steps'] for one in found)):.1%}",
                    str(sum(one["roll_backs"] for one in found)),
                    str(sum(one["lost"] for one in found)),
                    _bit(test),
                )
            )
    head = (
        "cell",
        "gradient",
        "median norm",
        "99 %",
        "largest",
        "steps clipped",
        "roll-backs",
        "runs lost",
        "validation",
    )
    words = (
        "The norm of the gradient over all weights at each step of equal steps, medians over the seeds; without "
        "clipping one seed. A run goes back to its last good moment, with half the rate, where its loss is no number "
        "or rises by a nat; after three times it is lost."
    )
    return Section("stability", "Stability", words, [ComparisonTable("Gradients", head, rows)])


def _runs(written: dict[str, Any], kind: str, cell: str) -> list[dict[str, Any]]:
    return [written["parts"][f"{kind}-{cell}-{seed}"] for seed in range(1, written["plan"]["seeds"] + 1)]


def _over_seeds(written: dict[str, Any], cell: str, what: str) -> dict[str, float]:
    runs = [run["figures"][what] for run in _runs(written, "steps", cell)]
    return {name: median_of([run[name] for run in runs]) for name in runs[0]}


def median_of(values: Sequence[float | None]) -> float:
    """The median of the numbers there are; not a number where there is none."""
    known = [value for value in values if value is not None]
    return median(known) if known else math.nan


def _spread(values: Sequence[float | None]) -> str:
    """The median, and the lowest and highest where there are several."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return _bit(median_of(values))
    return f"{median(known):.3f} [{min(known):.3f}–{max(known):.3f}]"


def _bit(value: float | None) -> str:
    return number(value, ".3f")


def _seconds(one: dict[str, Any], length: int) -> str:
    if (measured := one["seconds"].get(str(length))) is not None:
        return f"{measured:.3g}"
    return f"≈ {one['extrapolated'][str(length)]:.3g}"


def _life(values: Sequence[float | None], reach: int) -> str:
    known = [math.inf if value is None else value for value in values]
    middle = median(known)
    return f"over {reach}" if math.isinf(middle) else f"{middle:.1f}"


def _chart(title: str, across: str, up: str, lines: dict[str, list[tuple[float, float]]]) -> list[Chart]:
    """A chart with a line for each cell; none where there is nothing finite to draw."""
    series = []
    for at, (name, points) in enumerate(lines.items()):
        finite = [(x, y) for x, y in points if math.isfinite(y)]
        hints = [f"{name}: {y:.3f} at {2**x:,.0f}" for x, y in finite]
        if finite:
            series.append(Series(name, STYLES[at % len(STYLES)], finite, hints))
    return [Chart(title, across, up, series)] if series else []
