"""The results as the table that the README has."""

from examples.speech.mixing import lead
from examples.speech.recipe import ADAPTED, MIXES, OWN, Outcome

PAIRS = (
    ("its lattices, Unroll", OWN),
    ("its lattices, Unroll", "its lattices, adapted trigram"),
    ("its lattices, adapted trigram and Unroll", OWN),
    ("its lattices, adapted trigram and Unroll", "its lattices, adapted trigram"),
    ("those lattices, adapted trigram and Unroll", OWN),
    ("those lattices, adapted trigram and Unroll", ADAPTED),
    ("those lattices, adapted trigram and Unroll", "those lattices, weights tuned"),
)

ORDER = (OWN, *list(MIXES)[:3], ADAPTED, *list(MIXES)[3:])


def head(outcome: Outcome) -> str:
    """The head of the table."""
    voices = " | ".join(outcome.plan.voices)
    return f"| words by | {voices} | all voices |\n|---{'|---' * len(outcome.plan.voices)}|---|"


def rows(outcome: Outcome) -> list[str]:
    """Word errors in per cent of the words spoken, by voice and in all: a row for each method, then the oracles."""
    every = {name: outcome.errors[name] for name in ORDER if name in outcome.errors}
    every |= {f"oracle: {name}": found for name, found in outcome.oracle.items()}
    total = outcome.words.sum()
    found = []
    for name, errors_of in every.items():
        by_voice = errors_of.sum(axis=0)
        cells = [*(100 * errors / total for errors in by_voice), 100 * by_voice.sum() / total / len(by_voice)]
        shown = f"**{name}**" if "Unroll" in name else name
        found.append(f"| {shown} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    return found


def leads(outcome: Outcome) -> list[str]:
    """By how much errors are fewer, with the interval, in lines."""
    lines = []
    for ours, rival in PAIRS:
        if not {ours, rival} <= outcome.errors.keys():
            continue
        share, low, high = lead(*(outcome.errors[name].sum(axis=1) for name in (ours, rival)))
        lines.append(f"{ours}: {share:.1%} fewer errors than {rival} (95 % of {low:.1%} to {high:.1%}).")
    return lines


def settings(outcome: Outcome) -> list[str]:
    """What validation chose, in lines."""
    lines = [f"The adapted trigram takes {outcome.share:.0%} of the book's probability."]
    for name, weights in outcome.weights.items():
        relative = " / ".join(f"{weight / weights[0]:.2f}" for weight in weights)
        lines.append(f"{name}: weights {relative}")
    return lines
