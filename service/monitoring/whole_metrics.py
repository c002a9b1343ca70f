"""The metrics of all processes behind one port, added up."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client.metrics_core import Metric

# How the values of several processes are combined; the default is the sum.
OTHERWISE: dict[str, Callable[[float, float], float]] = {
    "unroll_ready": min,
    "unroll_last_progress_timestamp_seconds": min,
    "unroll_memory_budget_bytes": max,  # one ledger, which every process reports
    "unroll_memory_held_bytes": max,
    "unroll_memory_most_held_bytes": max,
    "unroll_processes": max,
    "unroll_model": max,
    "unroll_model_loaded": max,
    "process_start_time_seconds": min,
    "process_max_fds": max,
    "python_info": max,
}
COUNTED = {"counter", "histogram"}  # kinds that only grow
MODEL = "model"  # the label of what is told of a model

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""The values of a family by their names and labels."""


def snapshot(families: Iterable[Metric]) -> bytes:
    """Metrics as bytes, for another process."""
    return json.dumps(
        [
            [
                one.name,
                one.documentation,
                one.type,
                [[sample.name, sample.labels, sample.value] for sample in one.samples],
            ]
            for one in families
        ]
    ).encode()


def whole(own: Iterable[Metric], others: Iterable[bytes]) -> Iterator[Metric]:
    """The metrics of this process combined with the snapshots of others; of models, only those that this process
    shows."""
    families = {one.name: one for one in own}
    models = {sample.labels[MODEL] for one in families.values() for sample in one.samples if MODEL in sample.labels}
    values: defaultdict[str, Values] = defaultdict(dict)
    for one in families.values():
        for sample in one.samples:
            _add(values[one.name], one.name, sample.name, sample.labels, sample.value)
    for other in others:
        for name, documentation, kind, samples in json.loads(other):
            families.setdefault(name, Metric(name, documentation, kind))
            for of, labels, value in samples:
                if MODEL not in labels or labels[MODEL] in models:
                    _add(values[name], name, of, labels, value)
    for name, family in families.items():
        added = Metric(name, family.documentation, family.type)
        for (of, labels), value in values[name].items():
            added.add_sample(of, dict(labels), value)
        yield added


def counted(before: bytes, last: bytes) -> bytes:
    """The counters of dead processes added to those of one more; values that are not counters are left out."""
    both = [one for snapshot in (before, last) if snapshot for one in json.loads(snapshot) if one[2] in COUNTED]
    values: defaultdict[str, Values] = defaultdict(dict)
    for name, _, _, samples in both:
        for sample, labels, value in samples:
            _add(values[name], name, sample, labels, value)
    kinds = {name: (documentation, kind) for name, documentation, kind, _ in both}
    summed = [
        [name, *kinds[name], [[sample, dict(labels), value] for (sample, labels), value in values[name].items()]]
        for name in kinds
    ]
    return json.dumps(summed).encode()


def _add(values: Values, family: str, sample: str, labels: dict[str, Any], value: float) -> None:
    key = sample, tuple(labels.items())
    before = values.get(key)
    values[key] = value if before is None else OTHERWISE.get(family, _sum)(before, value)


def _sum(one: float, other: float) -> float:
    return one + other
