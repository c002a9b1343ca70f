"""How likely each of some strings is to come next: a small language read whole, its common beginnings once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.decoding.rows import AnyDecoder
from model.errors import ParameterError
from model.text.prompt import Prompt
from model.text.tokenizer import Tokenizer

ROWS = 64  # beginnings of choices that are read together
MOST_BYTES = 1 << 28  # of the states of one length of beginnings


class Level(NamedTuple):
    """Beginnings of one length in ids, the children of those one id shorter.

    parents: which beginning of the level above each goes on (n,). ids: with which id (n,).
    ends: pairs of a beginning and a choice that is complete there, (2, k).
    """

    parents: NDArray[np.intp]
    ids: NDArray[np.int32]
    ends: NDArray[np.intp]


class ChoiceReader:
    """Says how likely each of the same choices is after one context and another; for one thread at a time.

    A context that goes on from the one before is read from there, so that a series is read once.

    choices: texts, one at least, none of them empty. Raises ParameterError on others, and where their beginnings are
    too many to be held; TokenizerError on text that is not Unicode.
    """

    def __init__(self, decoder: AnyDecoder, tokenizer: Tokenizer, choices: Sequence[str]) -> None:
        if not choices:
            raise ParameterError("choices", "choices is empty; give the texts that may come next.")
        if "" in choices:
            raise ParameterError("choices", f"choices[{list(choices).index('')}] is empty; leave it out.")
        self._decoder, self._tokenizer, self._count = decoder, tokenizer, len(choices)
        self._levels = levels_of([tokenizer.encode(choice).tolist() for choice in choices])
        self._rows = decoder.rows(ROWS)
        self._initial = self._rows.state[0].copy()
        widest = max(len(level.ids) for level in self._levels)
        if widest * self._initial.nbytes > MOST_BYTES:
            raise ParameterError(
                "choices",
                f"The choices have {widest:,} different beginnings of one length, of {self._initial.nbytes:,} bytes "
                "each; ask for fewer choices at a time.",
            )
        self._context = np.zeros(0, np.int32)
        self._state = self._initial

    def log_probabilities(self, context: str) -> NDArray[np.float64]:
        """ln p that a text goes on with each choice after the context (choices,).

        An empty context is the beginning of a text. Raises TokenizerError on text that is not Unicode.
        """
        self._read(Prompt(self._tokenizer, self._decoder.ids, context).ids)
        found = np.empty(self._count)
        states, last, before = self._state[None], self._context[-1:], np.zeros(1)
        for level in self._levels:
            states, whole = self._step(states, last)
            before = before[level.parents] + whole[level.parents, level.ids]
            states, last = states[level.parents], level.ids
            places, complete = level.ends
            found[complete] = before[places]
        return found

    def _read(self, ids: NDArray[np.int32]) -> None:
        """Bring the state to where all of the context but its last id is read."""
        known = max(0, len(self._context) - 1)
        if len(ids) <= known or (ids[: len(self._context)] != self._context[: len(ids)]).any():
            known, self._state = 0, self._initial
        if len(ids) - 1 > known:
            self._rows.state[0] = self._state
            self._rows.read([0], ids[None, known:-1])
            self._state = self._rows.state[0].copy()
        self._context = ids

    def _step(
        self, states: NDArray[np.float32], last: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The states (n, U) once each has read its last id (n,), and ln p of every id then (n, V)."""
        after, every = np.empty_like(states), []
        for at in range(0, len(states), ROWS):
            some = slice(at, at + ROWS)
            slots = np.arange(len(last[some]))
            self._rows.state[slots] = states[some]
            ids = last[some, None]
            scored = self._rows.score(slots, ids, ids, weights=True)
            assert scored.weights is not None
            assert scored.wholes is not None
            with np.errstate(divide="ignore"):  # a weight may be as little as nothing
                every.append(np.log(scored.weights[:, 0].astype(np.float64)) - np.log(scored.wholes))
            after[some] = self._rows.state[slots]
        return after, np.concatenate(every)


def levels_of(choices: Sequence[Sequence[int]]) -> list[Level]:
    """The beginnings of some choices in ids by their length, each beginning once."""
    levels, length = [], 1
    places: dict[tuple[int, ...], int] = {(): 0}
    left = list(range(len(choices)))
    while left:
        above, places = places, {}
        for choice in left:
            places.setdefault(tuple(choices[choice][:length]), len(places))
        parents = np.array([above[beginning[:-1]] for beginning in places], np.intp)
        ids = np.array([beginning[-1] for beginning in places], np.int32)
        complete = [choice for choice in left if len(choices[choice]) == length]
        ends = np.array([[places[tuple(choices[choice])] for choice in complete], complete], np.intp)
        levels.append(Level(parents, ids, ends.reshape(2, -1)))
        left = [choice for choice in left if len(choices[choice]) > length]
        length += 1
    return levels
