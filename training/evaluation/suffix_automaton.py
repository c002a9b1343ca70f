"""The suffix automaton of a sample, and how far a long text agrees with it, read once and a block at a time.

The automaton: Blumer et al. 1985, "The smallest automaton recognizing the subwords of a text". Reading a text through
it yields, at every position of the text, the longest string that ends there and stands in the sample: the matching
statistics of Chang and Lawler 1994, "Sublinear approximate string matching and biological applications". Both take
time linear in what they read, also where much repeats itself.
"""

from collections.abc import Sequence
from ctypes import CDLL, c_int32, c_int64, c_void_p
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.decoding.kernel_library import load_library, typed
from model.text.utf8_ids import Ids

LIBRARY = load_library(Path(__file__).parent, "_matches")
"""matches.c, compiled; None where it was not."""

BLOCK = 1 << 16  # ids of the text read at a time: bounds the working memory, and fits a core's cache


class SuffixAutomaton:
    """A machine whose paths from the root spell exactly the strings that stand in a sequence (n,).

    A state stands for the strings that end at the same positions of the sequence. Arrays over the S < 2 n + 1 states;
    state 0, the root, stands for the empty string:

    link: the state of the longest end of these strings that also ends elsewhere; -1 for the root.
    longest: the length of the longest of these strings; the shortest is one longer than the link's longest.
    edges: the state each next symbol leads to.
    prefixes: the state of each beginning of the sequence, (n,).
    """

    def __init__(self, sequence: Sequence[int]) -> None:
        self.link, self.longest = [-1], [0]
        self.edges: list[dict[int, int]] = [{}]
        self.prefixes: list[int] = []
        for symbol in sequence:
            self.prefixes.append(self._append(self.prefixes[-1] if self.prefixes else 0, symbol))

    def _append(self, last: int, symbol: int) -> int:
        """The state of the whole sequence once a symbol follows what led to state `last`."""
        new = self._state(self.longest[last] + 1, 0, {})
        state = last
        while state >= 0 and symbol not in self.edges[state]:
            self.edges[state][symbol] = new
            state = self.link[state]
        if state >= 0:
            self.link[new] = self._split(state, symbol)
        return new

    def _split(self, state: int, symbol: int) -> int:
        """The state whose longest string is that of `state` and then the symbol, made where there is none yet."""
        shared = self.edges[state][symbol]
        if self.longest[shared] == self.longest[state] + 1:
            return shared
        split = self._state(self.longest[state] + 1, self.link[shared], dict(self.edges[shared]))
        self.link[shared] = split
        while state >= 0 and self.edges[state].get(symbol) == shared:
            self.edges[state][symbol] = split
            state = self.link[state]
        return split

    def _state(self, longest: int, link: int, edges: dict[int, int]) -> int:
        self.longest.append(longest)
        self.link.append(link)
        self.edges.append(edges)
        return len(self.link) - 1


class Agreement:
    """What of a sample (n,) stands in a text that is read in blocks of any size, one after the other.

    compiled: whether matches.c reads; the same in Python takes some twenty times as long. None: where it was compiled.
    """

    def __init__(self, sample: Ids, compiled: bool | None = None) -> None:
        known, symbols = np.unique(sample, return_inverse=True)
        self._automaton = SuffixAutomaton((symbols + 1).tolist())
        # The symbol of each id, 0 for one the sample does not have; ids beyond the last entry are clipped.
        self._symbols = np.zeros(int(known.max(initial=0)) + 2, np.int32)
        self._symbols[known] = np.arange(1, len(known) + 1)
        self._best = np.zeros(len(self._automaton.link), np.int32)
        self._where = np.zeros(len(self._best), np.int64)
        self._now = np.zeros(2, np.int32)
        self._read = 0
        in_c = LIBRARY if compiled is not False else None
        self._follow = self._follow_plainly if in_c is None else CompiledEdges(self._automaton, in_c).follow

    def read(self, text: Ids) -> None:
        """Read ids (m,) that follow on those read before."""
        for start in range(0, len(text), BLOCK):
            symbols = self._symbols.take(text[start : start + BLOCK], mode="clip")
            self._follow(symbols, self._read, self._now, self._best, self._where)
            self._read += len(symbols)

    def _follow_plainly(
        self,
        symbols: NDArray[np.int32],
        before: int,
        now: NDArray[np.int32],
        best: NDArray[np.int32],
        where: NDArray[np.int64],
    ) -> None:
        """What matches.c defines, and explains."""
        link, longest, edges = self._automaton.link, self._automaton.longest, self._automaton.edges
        state, length = now.tolist()
        for position, symbol in enumerate(symbols.tolist(), before + 1):
            if not symbol:
                state = length = 0
                continue
            while symbol not in edges[state]:
                state = link[state]
                length = longest[state]
            state = edges[state][symbol]
            length += 1
            if length > best[state]:
                best[state], where[state] = length, position
        now[:] = state, length

    def depths(self) -> NDArray[np.int32]:
        """The length of the longest string that ends at each id of the sample and stands in the text, (n,)."""
        depths, link = self._best.tolist(), self._automaton.link
        shortest_first = np.argsort(self._automaton.longest, kind="stable").tolist()
        for state in shortest_first[:0:-1]:
            if depths[state]:  # where a string stands, each of its ends does, too
                depths[link[state]] = self._automaton.longest[link[state]]
        for state in shortest_first[1:]:
            depths[state] = depths[state] or depths[link[state]]
        return np.array(depths, np.int32)[self._automaton.prefixes]

    def first(self, end: int, length: int) -> int:
        """Where in the text sample[end - length : end] first begins.

        It has to be the longest of all passages of the sample that stand there: of a shorter one, any position is kept.
        """
        state = self._automaton.prefixes[end - 1]
        while self._automaton.longest[self._automaton.link[state]] >= length:
            state = self._automaton.link[state]
        return int(self._where[state]) - length


class CompiledEdges:
    """The transitions of an automaton as the table of matches.c."""

    def __init__(self, automaton: SuffixAutomaton, library: CDLL) -> None:
        edges = np.array(
            [(state, *edge) for state, leading in enumerate(automaton.edges) for edge in leading.items()], np.int32
        ).reshape(-1, 3)
        self._bits = max(1, (2 * len(edges)).bit_length())  # from a quarter to half full: few searches go on
        self._table = np.zeros((1 << self._bits, 3), np.int32)
        self._link, self._longest = np.array(automaton.link, np.int32), np.array(automaton.longest, np.int32)
        enter = typed(library.enter_edges, c_int64, c_void_p, c_int32, c_void_p, result=None)
        enter(len(edges), edges.ctypes.data, self._bits, self._table.ctypes.data)
        types = (c_void_p, c_int32, c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_void_p)
        self._function = typed(library.follow_edges, *types, result=None)

    def follow(
        self,
        symbols: NDArray[np.int32],
        before: int,
        now: NDArray[np.int32],
        best: NDArray[np.int32],
        where: NDArray[np.int64],
    ) -> None:
        """See matches.c, whose arguments these are."""
        table, link, longest = self._table.ctypes.data, self._link.ctypes.data, self._longest.ctypes.data
        arrays = (now.ctypes.data, best.ctypes.data, where.ctypes.data)
        self._function(table, self._bits, link, longest, symbols.ctypes.data, len(symbols), before, *arrays)
