"""A queue with turns: one item of each caller in turn, in order of arrival within a caller."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """A queue in which callers take turns; not for several threads at once."""

    def __init__(self) -> None:
        self._turns: OrderedDict[Hashable, deque[Item]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def of(self, caller: Hashable) -> int:
        """How many items of a caller wait."""
        return len(self._turns.get(caller, ()))

    def add(self, caller: Hashable, item: Item, first: bool = False) -> None:
        """Add an item behind its caller's others, or before them."""
        own = self._turns.setdefault(caller, deque())
        own.appendleft(item) if first else own.append(item)
        self._count += 1

    def take(self) -> tuple[Hashable, Item]:
        """The next caller and item; the caller's next turn is after all others'. Raises KeyError if none waits."""
        caller, own = self._turns.popitem(last=False)
        item = own.popleft()
        self._count -= 1
        if own:
            self._turns[caller] = own
        return caller, item

    def remove(self, caller: Hashable, item: Item) -> None:
        """Remove an item; does nothing if it does not wait."""
        own = self._turns.get(caller)
        if own is None or item not in own:
            return
        own.remove(item)
        self._count -= 1
        if not own:
            del self._turns[caller]

    def drop(self) -> Item:
        """Remove and return the last item of the caller with most. Raises ValueError if none waits."""
        caller, own = max(self._turns.items(), key=lambda turn: len(turn[1]))
        item = own.pop()
        self._count -= 1
        if not own:
            del self._turns[caller]
        return item

    def clear(self) -> None:
        """Remove everything."""
        self._turns.clear()
        self._count = 0
