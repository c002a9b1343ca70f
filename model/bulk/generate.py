"""The items of a list, drawn side by side on all cores, and told in the order of their numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Condition, Thread

from model.bulk.drawing import Item, ItemRequest, ItemRows
from model.cores import available_cores
from model.decoding.rows import AnyDecoder
from model.errors import ParameterError
from model.text.tokenizer import Tokenizer

ROWS = 128  # of each thread
AHEAD = 1 << 14  # items that may be drawn before the one that is told next


@contextmanager
def drawn_items(
    decoder: AnyDecoder,
    tokenizer: Tokenizer,
    request: ItemRequest,
    *,
    start: int = 0,
    end: int | None = None,
    rows: int = ROWS,
    threads: int | None = None,
) -> Iterator[Iterator[Item]]:
    """Items number `start` to `end` - 1 in order, or without an end as many as are taken; for a `with` block.

    An item is a function of the request and its number alone, whatever `rows` a thread draws side by side and however
    many `threads` there are (as many as cores by default). Leaving the block ends the threads.
    Raises ParameterError on a parameter outside its range.
    """
    check_request(decoder, tokenizer, request)
    threads = threads or available_cores()
    if end is not None:
        rows = max(1, min(rows, -(-(end - start) // threads)))
    team = Team(start, end)
    workers = [
        Thread(target=team.work, args=(decoder, tokenizer, request, rows), name=f"items-{number}", daemon=True)
        for number in range(threads)
    ]
    for worker in workers:
        worker.start()
    try:
        yield team.in_order()
    finally:
        team.stop()
        for worker in workers:
            worker.join()


def check_request(decoder: AnyDecoder, tokenizer: Tokenizer, request: ItemRequest) -> None:
    """Raise ParameterError or TokenizerError on a request that no item can be drawn for."""
    if request.max_tokens < 1:
        raise ParameterError("max_tokens", f"max_tokens is {request.max_tokens:,}; choose at least 1 for a list.")
    ItemRows(decoder, tokenizer, request, 1)


class Team:
    """Threads that draw items: which number is next, what is drawn, and how far they may run ahead."""

    def __init__(self, start: int, end: int | None) -> None:
        self._next, self._told, self._end = start, start, end
        self._stopped = False
        self._changed = Condition()
        self._drawn: SimpleQueue[list[Item] | BaseException] = SimpleQueue()

    def work(self, decoder: AnyDecoder, tokenizer: Tokenizer, request: ItemRequest, slots: int) -> None:
        """Draw items until there are no more, or nobody wants them; one thread's part."""
        try:
            rows = ItemRows(decoder, tokenizer, request, slots)
            while not self._stopped:
                rows.begin(self._take(rows.free, wait=not rows.busy))
                if not rows.busy:
                    return
                if ended := rows.step():
                    self._drawn.put(ended)
        except BaseException as error:
            self._drawn.put(error)

    def in_order(self) -> Iterator[Item]:
        """The items in the order of their numbers."""
        waiting: dict[int, Item] = {}
        told = self._told
        while told != self._end:
            drawn = self._drawn.get()
            if isinstance(drawn, BaseException):
                raise drawn
            waiting.update((item.number, item) for item in drawn)
            while (item := waiting.pop(told, None)) is not None:
                told += 1
                yield item
            with self._changed:
                self._told = told
                self._changed.notify_all()

    def stop(self) -> None:
        """Let the threads end after the call they are in."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _take(self, most: int, wait: bool) -> range:
        """The numbers of the next items to begin, up to `most`; none now, or with `wait` none any more."""
        with self._changed:
            while True:
                limit = self._told + AHEAD if self._end is None else min(self._end, self._told + AHEAD)
                count = max(0, min(most, limit - self._next))
                if count or not wait or self._stopped or self._next == self._end:
                    self._next += count
                    return range(self._next - count, self._next)
                self._changed.wait()
