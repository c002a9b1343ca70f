"""Run every benchmark, or those named: `python -m tests.benchmarks [decoding] [engine] [http] …`."""

import sys
from pathlib import Path

from tests.benchmarks import (
    anomalies,
    attention,
    bulk,
    busy,
    capacity,
    constraints,
    copying,
    cores,
    decoding,
    embeddings,
    engine,
    finetuning,
    gpu,
    http_load,
    hybrids,
    inspecting,
    items,
    latency,
    learning,
    levers,
    lists,
    page,
    peers,
    preparing,
    processes,
    quality,
    rank_network,
    ranks,
    remembering,
    scoring,
    serving,
    short,
    soak,
    tables,
    tiles,
    tokenizing,
    watching,
)
from tests.benchmarks.figures import show

BENCHMARKS = {
    "tokenizing": tokenizing.measure,
    "preparing": preparing.measure,
    "learning": learning.measure,
    "items": items.measure,
    "copying": copying.measure,
    "decoding": decoding.measure,
    "engine": engine.measure,
    "constraints": constraints.measure,
    "cores": cores.measure,
    "bulk": bulk.measure,
    "scoring": scoring.measure,
    "http": http_load.measure,
    "latency": latency.measure,
    "watching": watching.measure,
    "soak": soak.measure,
    "serving": serving.measure,
    "quality": quality.measure,
}


BY_NAME = {
    "anomalies": anomalies.measure,
    "attention": attention.measure,
    "tables": tables.measure,
    "tiles": tiles.measure,
    "busy": busy.measure,
    "capacity": capacity.measure,
    "embeddings": embeddings.measure,
    "levers": levers.measure,
    "lists": lists.measure,
    "finetuning": finetuning.measure,
    "gpu": gpu.measure,
    "hybrids": hybrids.measure,
    "inspecting": inspecting.measure,
    "page": page.measure,
    "processes": processes.measure,
    "ranks": ranks.measure,
    "short": short.measure,
    "remembering": remembering.measure,
    "rank_network": rank_network.measure,
    "peers": peers.measure,
}
"""Those that take long, and run only when named."""


def main() -> None:
    """Measure and show."""
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := set(names).difference(every := BENCHMARKS | BY_NAME):
        sys.exit(f"There is no benchmark {', '.join(sorted(unknown))}; choose from {', '.join(every)}.")
    figures = [figure for name in names for figure in (BENCHMARKS | BY_NAME)[name]()]
    show(figures, Path("benchmark.json"))
    if missed := [figure.name for figure in figures if figure.holds is False]:
        sys.exit(f"Short of the target: {', '.join(missed)}.")


if __name__ == "__main__":
    main()
