"""Draws the curves of a run into curves.png."""

from pathlib import Path

from training.monitoring.watcher import Check

CURVES = "curves.png"


def draw_curves(checks: list[Check], path: Path) -> None:
    """Bits per character of train and validation over the characters read, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    read = [check.characters / 1e6 for check in checks]
    axes.plot(read, [check.train_bits for check in checks], label="train, running mean, dropout on")
    axes.plot(read, [check.validation_bits for check in checks], label="validation, carried state", marker=".")
    axes.set_xlabel("million characters read")
    axes.set_ylabel("bits per character")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
