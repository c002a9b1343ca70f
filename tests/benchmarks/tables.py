"""Our tables of patterns beside the dense ones of outlines-core, where that is installed: time, states, what is right.

`pip install outlines-core` in an environment of its own, and `python -m tests.benchmarks tables` there.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from statistics import median
from typing import Any

from model.constraints.compiling import compiled
from model.constraints.constraint import Constraint, Kind
from model.constraints.vocabulary import Vocabulary
from tests.benchmarks.constraints import ASCII, FIVE_FIELDS, PATTERNS
from tests.benchmarks.figures import Figure
from tests.model.small import small_checkpoint

TURNS = 15
AGE = json.dumps(FIVE_FIELDS["properties"]["age"])


def milliseconds(work: Callable[[], Any]) -> float:
    """The median of some turns, the first left out."""
    seconds = []
    for _ in range(TURNS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1e3 * median(seconds[1:])


class Dense:
    """outlines-core over the same characters, each a token."""

    def __init__(self) -> None:
        try:
            self._core: Any = import_module("outlines_core")
            self._regex: Any = import_module("outlines_core.json_schema").build_regex_from_schema
        except ModuleNotFoundError:
            sys.exit("This compares with outlines-core, which is not installed; pip install outlines-core.")
        self._characters: Any = self._core.Vocabulary(len(ASCII), {one: [at] for at, one in enumerate(ASCII)})

    def index(self, kind: Kind, source: str) -> Any:
        """The dense table of a constraint."""
        if kind == "json_schema":
            source = self._regex(source, "")
        elif kind == "choice":
            source = "|".join(json.loads(source))
        return self._core.Index(source, self._characters)

    def accepts(self, kind: Kind, source: str, text: str) -> bool:
        """Whether a whole text is allowed."""
        index = self.index(kind, source)
        state, transitions = index.get_initial_state(), index.get_transitions()
        for character in text:
            state = transitions.get(state, {}).get(ASCII.index(character))
        return state is not None and index.is_final_state(state)


def measure() -> list[Figure]:
    """Both on one core, in turn."""
    dense = Dense()
    checkpoint = small_checkpoint(characters=ASCII)
    vocabulary = Vocabulary(checkpoint.tokenizer, checkpoint.seen())
    patterns: dict[str, tuple[Kind, str]] = {
        name: pattern for name, pattern in PATTERNS.items() if pattern[0] in ("regex", "json_schema", "choice")
    }
    figures = []
    for name, (kind, source) in patterns.items():

        def ours(kind: Kind = kind, source: str = source) -> Any:
            return compiled(Constraint(kind, source), vocabulary).transitions

        def theirs(kind: Kind = kind, source: str = source) -> Any:
            return dense.index(kind, source).get_transitions()

        figures += [
            Figure(f"{name}: our table", milliseconds(ours), "ms"),
            Figure(f"{name}: outlines-core's", milliseconds(theirs), "ms"),
            Figure(f"{name}: states of ours", len(ours().next), "states"),
            Figure(f"{name}: states of outlines-core's", len(theirs()), "states"),
        ]
    wrong = [str(number) for number in (-5, 121, 9999)]
    figures.append(
        Figure(
            "integers out of bounds that outlines-core allows, of 3",
            sum(dense.accepts("json_schema", AGE, one) for one in wrong),
            "texts",
        )
    )
    return figures
