"""The metrics of each model; labels are only names that the server gives to models, and a limited number of them."""

from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from service.models.model_entry import ModelEntry
from service.models.model_registry import Allowed, ModelRegistry

MOST_MODELS = 256  # that have series of their own
VERSION = version("unroll")  # read once: looking it up takes half a millisecond


def of_models(registry: ModelRegistry, allowed: Allowed) -> Iterator[Metric]:
    """The models that a key may use, and the requests for each."""
    entries = list(islice(registry.seen_by(allowed), MOST_MODELS))
    about = "A model that is served, and of one in memory what its texts follow from (sha)."
    info = InfoMetricFamily("unroll_model", about, labels=("model",))
    for entry in entries:
        info.add_metric((entry.name,), _facts(entry))
    yield info
    loaded = GaugeMetricFamily("unroll_model_loaded", "1 while the model is in memory, else 0.", labels=("model",))
    for entry in entries:
        loaded.add_metric((entry.name,), float(entry.served is not None))
    yield loaded
    for name, about, field in (
        ("texts", "Texts of the model that were taken.", "submitted"),
        ("prompt_tokens", "Characters of their prompts.", "prompt_tokens"),
        ("generation_tokens", "Characters of its texts that ended by themselves.", "tokens"),
        ("embeddings", "Texts of which the model made vectors.", "embedded"),
        ("embedding_tokens", "Characters of those texts.", "embedded_tokens"),
    ):
        family = CounterMetricFamily(f"unroll_model_{name}", about, labels=("model",))
        for entry in entries:
            family.add_metric((entry.name,), getattr(entry.counts, field))
        yield family

    yield from _of_changes(entries)
    yield from _of_all(registry, allowed)


def _of_changes(entries: list[ModelEntry]) -> Iterator[Metric]:
    """How often models were loaded and replaced."""
    for name, about, field in (
        ("loads", "How often the model was loaded.", "loads"),
        ("swaps", "How often it was replaced by another version.", "swaps"),
    ):
        family = CounterMetricFamily(f"unroll_model_{name}", about, labels=("model",))
        for entry in entries:
            family.add_metric((entry.name,), getattr(entry, field))
        yield family


def _of_all(registry: ModelRegistry, allowed: Allowed) -> Iterator[Metric]:
    """Refused checkpoints, also of names that are not served, and the memory of all models."""
    about = "How often a checkpoint was refused, by its name; /health says why."
    refused = CounterMetricFamily("unroll_model_refusals", about, labels=("model",))
    seen = None if allowed is None else {entry.name for entry in registry.seen_by(allowed)}
    for name, count in registry.refusals.most_common(MOST_MODELS):
        if seen is None or name in seen:
            refused.add_metric((name,), count)
    yield refused
    about = "Bytes of all models, also of those that are served no more and whose texts go on."
    yield GaugeMetricFamily("unroll_models_memory_bytes", about, registry.memory_bytes)


def _facts(entry: ModelEntry) -> dict[str, str]:
    facts = {
        "version": VERSION,
        "digest": entry.facts.digest[:16],
        "vocab": str(entry.facts.vocabulary),
        "params": str(entry.facts.parameters),
    }
    return facts if entry.served is None else {"sha": entry.served.fingerprint, **facts}
