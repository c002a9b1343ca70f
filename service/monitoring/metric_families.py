"""Metric families of Prometheus, made from the plain numbers and histograms that the engine counts."""

import math
from collections.abc import Mapping
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from service.engine.counters import Histogram


def gauge(name: str, about: str, value: float) -> Metric:
    """A number that goes up and down."""
    return GaugeMetricFamily(f"unroll_{name}", about, value)


def counter(name: str, about: str, value: float) -> Metric:
    """A number that only grows."""
    return CounterMetricFamily(f"unroll_{name}", about, value)


def labelled_counter(name: str, about: str, label: str, values: Mapping[Any, int]) -> Metric:
    """A counter for each value of a label."""
    family = CounterMetricFamily(f"unroll_{name}", about, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def histogram(name: str, about: str, counted: Histogram) -> Metric:
    """How many values fell into each bucket."""
    buckets, total = _buckets(counted)
    return HistogramMetricFamily(f"unroll_{name}", about, buckets, total)


def labelled_histogram(name: str, about: str, by_route: Mapping[str, Histogram]) -> Metric:
    """A histogram for each route."""
    family = HistogramMetricFamily(f"unroll_{name}", about, labels=("route",))
    for route, counted in by_route.items():
        buckets, total = _buckets(counted)
        family.add_metric((route,), buckets, total)
    return family


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Prometheus' buckets, which count the values at or below each bound, and the sum of all values."""
    buckets, below = [], 0
    for bound, count in zip((*histogram.bounds, math.inf), list(histogram.counts), strict=True):
        below += count
        buckets.append(("+Inf" if bound == math.inf else str(bound), float(below)))
    return buckets, histogram.total
