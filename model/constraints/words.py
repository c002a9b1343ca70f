"""Tables for ids and words: only these ids, or none of these words (Aho & Corasick 1975)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.constraints.constraint import Constraint, Limits
from model.constraints.vocabulary import Vocabulary
from model.sampling.transitions import NOWHERE, Transitions


def only(constraint: Constraint, vocabulary: Vocabulary) -> Transitions:
    """Any text of the ids that are listed. Raises ParameterError where none of them is ever drawn."""
    wanted = constraint.value()
    if not isinstance(wanted, list) or not all(type(token) is int for token in wanted):
        raise constraint.refused("is not a list of ids; send integers")
    listed = np.isin(vocabulary.ids, np.array(wanted, np.float64))
    if not listed.any():
        raise constraint.refused("has no id that this model draws; see /tokenize for the ids of characters")
    return _endless(np.where(listed, 0, 1).astype(np.int32), np.array([[0, NOWHERE]], np.int32))


def without(constraint: Constraint, vocabulary: Vocabulary, limits: Limits) -> Transitions:
    """Any text in which no word stands. Raises ParameterError where nothing is left to draw, or they are too many."""
    words = [vocabulary.tokenizer.encode(word).tolist() for word in constraint.texts()]
    used = sorted({token for word in words for token in word})
    number = {token: at for at, token in enumerate(used)}
    if sum(map(len, words)) > limits.states or sum(map(len, words)) * (len(used) + 1) > limits.cells:
        raise constraint.refused("has too many words; send fewer, or shorter ones")
    table = _spelled([[number[token] for token in word] for word in words], len(used))
    classes = np.array([number.get(int(token), len(used)) for token in vocabulary.ids], np.int32)
    drawn = np.unique(classes)
    while True:  # a state after which nothing is left may not be entered
        stuck = (table[:, drawn] == NOWHERE).all(axis=1)
        entered = (table != NOWHERE) & stuck[table]
        if stuck[0]:
            raise constraint.refused("leaves no character to be drawn; send fewer words")
        if not entered.any():
            return _endless(classes, table)
        table[entered] = NOWHERE


def _spelled(words: Sequence[Sequence[int]], letters: int) -> NDArray[np.int32]:
    """The state after each letter, by how much of a word the text ends with; one more letter stands for all others."""
    children: list[dict[int, int]] = [{}]
    forbidden = [False]
    for word in words:
        state = 0
        for letter in word:
            if letter not in children[state]:
                children[state][letter] = len(children)
                children.append({})
                forbidden.append(False)
            state = children[state][letter]
        forbidden[state] = True
    table = np.zeros((len(children), letters + 1), np.int32)
    shorter = [0] * len(children)  # the state of the longest other beginning that the text ends with
    order = [0]
    for state in order:  # grows as it is walked: breadth first
        forbidden[state] = forbidden[state] or forbidden[shorter[state]]
        table[state] = table[shorter[state]] if state else 0
        for letter, child in children[state].items():
            shorter[child] = int(table[state, letter]) if state else 0
            table[state, letter] = child
            order.append(child)
    table[np.array(forbidden)[table]] = NOWHERE
    return table


def _endless(classes: NDArray[np.int32], table: NDArray[np.int32]) -> Transitions:
    """Transitions of texts that may stop at any length, and are complete at none."""
    nothing = np.zeros(len(table), np.int32)
    return Transitions(classes, table, nothing, nothing)
