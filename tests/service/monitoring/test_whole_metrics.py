"""The metrics of several processes add up, and what the dead have counted is never taken back."""

import json

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from service.monitoring.whole_metrics import counted, snapshot, whole


def families(requests: int, held: int, model: str = "a") -> list[Metric]:
    """Some metrics of a process."""
    counter = CounterMetricFamily("unroll_requests", "Answers.", labels=("route",))
    counter.add_metric(("/health",), requests)
    of_model = CounterMetricFamily("unroll_model_texts", "Texts.", labels=("model",))
    of_model.add_metric((model,), requests)
    return [
        counter,
        of_model,
        GaugeMetricFamily("unroll_requests_running", "Texts.", requests),
        GaugeMetricFamily("unroll_memory_held_bytes", "Bytes of the one ledger.", held),
        GaugeMetricFamily("unroll_ready", "Ready.", float(requests > 1)),
        HistogramMetricFamily("unroll_step_seconds", "Steps.", [("0.1", 1), ("+Inf", requests)], 0.5),
    ]


def values(found: object) -> dict[str, float]:
    assert isinstance(found, list)
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value for family in found for sample in family.samples
    }


def test_counts_add_up_and_what_is_one_for_all_stays_so() -> None:
    found = values(list(whole(families(2, 70), [snapshot(families(3, 80)), snapshot(families(1, 60, model="b"))])))
    assert found == {
        "unroll_requests_total['/health']": 6,
        "unroll_model_texts_total['a']": 5,  # of b, which is not told of here, nothing
        "unroll_requests_running[]": 6,
        "unroll_memory_held_bytes[]": 80,
        "unroll_ready[]": 0,
        "unroll_step_seconds_bucket['0.1']": 3,
        "unroll_step_seconds_bucket['+Inf']": 6,
        "unroll_step_seconds_count[]": 6,
        "unroll_step_seconds_sum[]": 1.5,
    }


def test_the_dead_leave_their_counts_and_nothing_else() -> None:
    dead = counted(counted(b"", snapshot(families(2, 70))), snapshot(families(5, 10)))
    assert {one[0] for one in json.loads(dead)} == {"unroll_requests", "unroll_model_texts", "unroll_step_seconds"}
    found = values(list(whole(families(1, 20), [dead])))
    assert found["unroll_requests_total['/health']"] == found["unroll_step_seconds_count[]"] == 8
    assert found["unroll_requests_running[]"] == 1


def test_every_metric_of_a_registry_survives_the_way() -> None:
    registry = CollectorRegistry()
    for family in families(2, 70):
        registry.register(type("One", (), {"collect": lambda _, family=family: [family]})())
    assert (
        values(list(whole([], [snapshot(registry.collect())]))).keys() | {"unroll_model_texts_total['a']"}
        == values(families(2, 70)).keys()
    )
