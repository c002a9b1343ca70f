"""One thread's rows: items begin in free slots, are drawn side by side, and end one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.decoding.rows import AnyDecoder, Drawn
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from model.sampling.transitions import CODES, NEVER, AnyConstraint, Completion
from model.text.prompt import Prompt
from model.text.stop_strings import StopStrings
from model.text.text_stream import FinishReason, TextStream
from model.text.tokenizer import Tokenizer

CAPACITY = 256  # ids of a row that wait to become text
MOST_STEPS = 16  # of one call: an item that ends in the middle of it has drawn the rest in vain
WASTED = 32  # a call takes at most this part of a mean item's length
FEW_ROWS = 64  # rows × steps from which on a call's own cost no longer counts


class Item(NamedTuple):
    """One item of a list: its number, its text, why it ended, and how many ids were drawn for it."""

    number: int
    text: str
    finish_reason: FinishReason
    tokens: int


@dataclass(frozen=True, kw_only=True)
class ItemRequest:
    """What all items of a list share. Item j is the text that `model.generate.generate` draws with `choice=j`.

    prompt: what every item continues. max_tokens: ids of an item at most. stop: strings that end an item.
    constraint: what every item must match.
    """

    prompt: str
    parameters: SamplingParameters
    max_tokens: int
    stop: Sequence[str] = ()
    constraint: AnyConstraint | None = None


class ItemRows:
    """Slots in which items are drawn; for one thread at a time.

    free: how many slots have no item. Raises what `model.generate.generate` does of the same request.
    """

    def __init__(self, decoder: AnyDecoder, tokenizer: Tokenizer, request: ItemRequest, slots: int) -> None:
        self._request, self._tokenizer, self._known = request, tokenizer, decoder.ids
        prompt = Prompt(tokenizer, decoder.ids, request.prompt)
        self._prompt, self._penalised = prompt.ids, prompt.penalised
        if request.constraint is not None:
            request.constraint.check(request.max_tokens)
        self._rows = decoder.rows(slots)
        self._rows.read([0], self._prompt[None, :-1])
        self._state = self._rows.state[0].copy()  # in which every item begins
        self._stops = StopStrings(request.stop, tokenizer.frame.separator)
        self._starts = self._stops.starts(tokenizer)
        self._free = list(range(slots))[::-1]
        self._busy: NDArray[np.intp] = np.zeros(0, np.intp)
        self._streams: list[TextStream] = [TextStream(tokenizer, self._stops)] * slots
        self._parts: list[list[str]] = [[] for _ in range(slots)]
        self._index = [0] * slots
        self._ids = np.zeros((slots, CAPACITY), np.int32)
        self._filled = np.zeros(slots, np.int64)  # ids that wait
        self._drawn = np.zeros(slots, np.int64)
        self._holding = np.zeros(slots, np.bool_)
        self._columns = np.arange(MOST_STEPS)
        self._mean = 64.0  # ids of the latest items

    @property
    def free(self) -> int:
        """How many more items there is room for."""
        return len(self._free)

    @property
    def busy(self) -> bool:
        """Whether there is an item to draw."""
        return len(self._busy) > 0

    def begin(self, indices: Sequence[int]) -> None:
        """Begin items, no more than there are free slots."""
        if not indices:
            return
        request, slots = self._request, [self._free.pop() for _ in indices]
        self._rows.state[slots] = self._state
        for slot, index in zip(slots, indices, strict=True):
            walk = None if request.constraint is None else request.constraint.walk(request.max_tokens)
            row = RowSampling(request.parameters, self._known, self._penalised, index, None, walk)
            self._rows.set(slot, row, int(self._prompt[-1]))
            complete = None
            if request.constraint is not None and request.constraint.ends and self._stops.end:
                complete = Completion(request.constraint.walk(NEVER), self._tokenizer.pieces, self._known)
            self._streams[slot] = TextStream(self._tokenizer, self._stops, complete=complete)
            self._parts[slot], self._index[slot] = [], index
        self._filled[slots] = self._drawn[slots] = 0
        self._holding[slots] = False
        self._busy = np.concatenate([self._busy, np.array(slots, np.intp)])

    def step(self) -> list[Item]:
        """Draw some ids for every item; returns the items that have ended."""
        busy = self._busy
        steps = int(np.clip(max(FEW_ROWS // len(busy), self._mean // WASTED), 1, MOST_STEPS))
        drawn = self._rows.draw(busy, steps)
        ids, counts = self._meant(drawn, steps)
        self._ids[busy[:, None], self._filled[busy][:, None] + self._columns[:steps]] = ids
        self._filled[busy] += counts
        self._drawn[busy] += counts
        hot = (self._drawn[busy] >= self._request.max_tokens) | (self._filled[busy] > CAPACITY - MOST_STEPS)
        if drawn.ended is not None:
            hot |= drawn.ended > 0
        hot |= self._starts[ids].any(axis=1) | self._holding[busy]
        ended = []
        for at in hot.nonzero()[0].tolist():
            item = self._read(int(busy[at]), 0 if drawn.ended is None else int(drawn.ended[at]))
            if item is not None:
                ended.append(item)
        if ended:
            self._busy = busy[np.isin(busy, self._free, invert=True)]
        return ended

    def _meant(self, drawn: Drawn, steps: int) -> tuple[NDArray[np.int32], NDArray[np.int32] | int]:
        """The ids of a call (B, steps), with an id that exists in the place of each that is not meant; and how many."""
        if drawn.counts is None:
            return drawn.ids, steps
        meant = self._columns[:steps] < drawn.counts[:, None]
        return np.where(meant, drawn.ids, np.int32(self._known[0])), drawn.counts

    def _read(self, slot: int, code: int) -> Item | None:
        """Decode what waits in a slot; the item, if it has ended. code: how the sampler says that it has."""
        drawn, most = int(self._drawn[slot]), self._request.max_tokens
        count = int(self._filled[slot]) - max(0, drawn - most)
        stream, parts = self._streams[slot], self._parts[slot]
        parts.append(stream.feed(self._ids[slot, :count].tolist()))
        self._filled[slot] = 0
        if stream.stopped is not None:
            return self._end(slot, "stop", stream.taken)
        if code or drawn >= most:
            parts.append(stream.flush())
            return self._end(slot, "stop" if code == CODES["stop"] else "length", min(drawn, most))
        self._holding[slot] = stream.holding
        return None

    def _end(self, slot: int, reason: FinishReason, tokens: int) -> Item:
        self._free.append(slot)
        self._mean += (tokens - self._mean) / 64
        return Item(self._index[slot], "".join(self._parts[slot]), reason, tokens)
