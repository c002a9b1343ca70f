"""A recogniser's lattice, and the n best word sequences in it, exactly."""

import heapq
from collections import defaultdict
from typing import NamedTuple

from examples.speech.trigram import BEGIN, END, History, Language

HISTORIES = 50  # of a node that a search goes on from, the best ones


class Link(NamedTuple):
    """To a node after another. acoustic: ln of the score that the sound gives to the word of the node before."""

    node: int
    acoustic: float


class Lattice(NamedTuple):
    """A directed graph without circles; a node is a word that begins at some time.

    words: of each node, None of those that stand for silence and noise. after: the links from each node.
    order: the nodes, each after those before it. start, end: nodes.
    """

    words: list[str | None]
    after: list[list[Link]]
    order: list[int]
    start: int
    end: int


class Hypothesis(NamedTuple):
    """A word sequence of a lattice: its best path's acoustic score, and ln p by the language the search went by."""

    words: tuple[str, ...]
    acoustic: float
    language: float


def read(text: str) -> Lattice:
    """A lattice from HTK's standard lattice format, as pocketsphinx writes it.

    Raises ValueError where the text is no such lattice.
    """
    words: dict[int, str | None] = {}
    after: dict[int, list[Link]] = defaultdict(list)
    ends: dict[str, int] = {}
    for line in text.splitlines():
        fields = dict(part.split("=", 1) for part in line.split() if "=" in part and not line.startswith("#"))
        if "I" in fields:
            word = fields["W"]
            words[int(fields["I"])] = None if word.startswith(("!", "<", "[", "+")) else word
        elif "J" in fields:
            after[int(fields["S"])].append(Link(int(fields["E"]), float(fields["a"])))
        elif fields.keys() & {"start", "end"}:
            ends |= {name: int(fields[name]) for name in ("start", "end") if name in fields}
    if ends.keys() != {"start", "end"}:
        raise ValueError("This is no lattice of pocketsphinx: it does not say where it starts and ends.")
    links = [after[node] for node in range(len(words))]
    return Lattice([words[node] for node in range(len(words))], links, _order(links), **ends)


def _order(after: list[list[Link]]) -> list[int]:
    """The nodes, each after those before it."""
    waits = [0] * len(after)
    for links in after:
        for link in links:
            waits[link.node] += 1
    ready = [node for node, count in enumerate(waits) if not count]
    for node in ready:
        for link in after[node]:
            waits[link.node] -= 1
            if not waits[link.node]:
                ready.append(link.node)
    if len(ready) != len(after):
        raise ValueError("This is no lattice: it goes in circles.")
    return ready


class _Path(NamedTuple):
    score: float
    words: History
    acoustic: float
    language: float


class _State:
    """What a search knows at a node after some words: word sequences, best first, made as they are asked for.

    best: the score of the first.
    """

    def __init__(self, steps: list["_Step"]) -> None:
        self.best: float = max((step.score + step.state.best for step in steps), default=0.0)
        self._steps = steps
        self._found = [] if steps else [_Path(0.0, (), 0.0, 0.0)]
        self._seen: set[History] = set()
        self._next: list[tuple[float, int, int]] | None = None

    def path(self, rank: int) -> _Path | None:
        """The path at a rank from 0 on, None where there are fewer."""
        if self._next is None:  # a step's first path has a known score, and need not be made for it
            self._next = [(-step.score - step.state.best, at, 0) for at, step in enumerate(self._steps)]
            heapq.heapify(self._next)
        while len(self._found) <= rank and self._next:
            _, at, taken = self._next[0]
            step = self._steps[at]
            path = step.state.path(taken)
            assert path is not None  # it was there when the entry was made
            words = path.words + step.said
            if words not in self._seen:
                self._seen.add(words)
                acoustic, language = path.acoustic + step.acoustic, path.language + step.language
                self._found.append(_Path(path.score + step.score, words, acoustic, language))
            following = step.state.path(taken + 1)
            if following is None:
                heapq.heappop(self._next)
            else:
                heapq.heapreplace(self._next, (-step.score - following.score, at, taken + 1))
        return self._found[rank] if rank < len(self._found) else None


class _Step(NamedTuple):
    """From a state before: what it adds to each of its paths."""

    state: _State
    score: float
    said: History
    acoustic: float
    language: float


def n_best(lattice: Lattice, language: Language, weight: float, penalty: float, count: int) -> list[Hypothesis]:
    """The best so many word sequences by acoustic + weight × language + penalty × words, best first, none twice.

    A node has a state for each two words before it, a state's word sequences come one by one from those of the
    states before it (Huang and Chiang 2005, "Better k-best parsing", algorithm 3), and paths with the same words are
    one sequence, with the score of the best. That is exact where no node has more than `HISTORIES` pairs before it;
    elsewhere the search goes on from those with the best scores so far.
    """
    steps: list[dict[History, list[_Step]]] = [defaultdict(list) for _ in lattice.words]
    last: list[_Step] = []
    for node in lattice.order:
        states = {history: _State(ways) for history, ways in steps[node].items()}
        if node == lattice.start:
            states[(BEGIN,)] = _State([])
        word = lattice.words[node]
        for history, state in heapq.nlargest(HISTORIES, states.items(), key=_best):
            if node == lattice.end:
                chance = language(history, END)
                last.append(_Step(state, weight * chance, (), 0.0, chance))
                continue
            said = () if word is None else (word,)
            chance, added = (0.0, 0.0) if word is None else (language(history, word), penalty)
            now = (*history, *said)[-2:]
            for link in lattice.after[node]:
                score = link.acoustic + weight * chance + added
                steps[link.node][now].append(_Step(state, score, said, link.acoustic, chance))
    if not last:
        return []
    whole = _State(last)
    paths = (whole.path(rank) for rank in range(count))
    return [Hypothesis(path.words, path.acoustic, path.language) for path in paths if path is not None]


def _best(item: tuple[History, _State]) -> float:
    return item[1].best
