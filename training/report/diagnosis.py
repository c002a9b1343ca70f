"""Reads a run's curves: whether the network learnt its corpus by heart, and what to change, in sentences."""

from collections.abc import Sequence

from training.loop.finished_run import FinishedRun
from training.monitoring.watcher import Validation

RISEN = 0.02  # bits by which the last validation lies above the best before that is called overfitting
APART = 0.35  # bits between train, with dropout, and validation that are overfitting, too, where the last is best
BARELY = 0.03  # bits gained in the last quarter of a run from which a longer run would have learnt more


def verdict(run: FinishedRun) -> list[str]:
    """Sentences for a finished run; none where there is nothing to say."""
    validations, config = run.validations, run.config
    notes = []
    if 0 < config.patience <= run.stale and not run.stopped_early:
        notes.append(
            f"The run ended early: {config.patience} validations in a row brought nothing better (--patience)."
        )
    best = min(validations, key=lambda validation: validation.validation_bits)
    if (sentence := _overfits(validations, best, len(run.split.train))) is not None:
        notes.append(sentence + _remedies(run))
    elif run.split.held_out and len(validations) >= 8 and _gained(validations) > BARELY and not run.stopped_early:
        notes.append(
            f"The network was still learning: the last quarter of the run gained {_gained(validations):.2f} bits; a "
            "longer budget (--minutes, --epochs) would give a better one."
        )
    return notes


def _overfits(validations: Sequence[Validation], best: Validation, pass_: int) -> str | None:
    """What shows it, if anything does. pass_: characters of a pass; what was read once is not known by heart."""
    last = validations[-1]
    if last.validation_bits - best.validation_bits > RISEN:
        return (
            f"The network overfits: it did best on held-out text at step {best.step:,} ({best.validation_bits:.3f} "
            f"bits) and ended at {last.validation_bits:.3f}, while on its own text it went on to {last.train_bits:.3f}."
        )
    if last.validation_bits - last.train_bits > APART and last.characters > pass_:
        return (
            f"The network knows its own text much better ({last.train_bits:.3f} bits) than held-out text "
            f"({last.validation_bits:.3f})."
        )
    return None


def _remedies(run: FinishedRun) -> str:
    """What to change, the most telling first."""
    config = run.config
    share = max(config.regularisation.layer_dropout, config.regularisation.output_dropout)
    remedies = ["add more text"]
    if share < 0.6:
        remedies.append(f"raise --dropout (it was {share:g})")
    if config.regularisation.weight_drop < 0.5:
        remedies.append(f"raise --weight-drop (it was {config.regularisation.weight_drop:g})")
    remedies.append(f"choose fewer passes, or a smaller --hidden (it was {config.network.hidden})")
    return f" To change that, {', '.join(remedies[:-1])}, or {remedies[-1]}."


def _gained(validations: Sequence[Validation]) -> float:
    """Bits of validation that the last quarter of a run brought."""
    return validations[len(validations) * 3 // 4].validation_bits - validations[-1].validation_bits
