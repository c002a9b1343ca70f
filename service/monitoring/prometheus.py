"""Prometheus metric families and buckets, made from plain numbers."""

import math
from collections.abc import Mapping
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from service.engine.counters import Histogram


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"unroll_{name}", about, value)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(f"unroll_{name}", about, value)


def _counters(name: str, about: str, label: str, values: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(f"unroll_{name}", about, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _histogram(name: str, about: str, histogram: Histogram) -> Metric:
    buckets, total = _buckets(histogram)
    return HistogramMetricFamily(f"unroll_{name}", about, buckets, total)


def _histograms(name: str, about: str, by_route: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"unroll_{name}", about, labels=("route",))
    for route, histogram in by_route.items():
        buckets, total = _buckets(histogram)
        family.add_metric((route,), buckets, total)
    return family


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Prometheus' buckets, which count the values at or below each bound, and the sum of all values."""
    buckets, below = [], 0
    for bound, count in zip((*histogram.bounds, math.inf), list(histogram.counts), strict=True):
        below += count
        buckets.append(("+Inf" if bound == math.inf else str(bound), float(below)))
    return buckets, histogram.total
