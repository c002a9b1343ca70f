"""The items of a list, drawn in blocks all over a cluster: the bytes that one machine draws."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from model.bulk.drawing import Item, ItemRequest
from model.bulk.generate import drawn_items
from model.checkpoint import Checkpoint
from model.cluster.connection import Connection
from model.cluster.ordered_blocks import OrderedBlocks, Table
from model.cluster.shared_model import SharedModel, ready, ready_constraint
from model.constraints.constraint import Constraint
from model.decoding.step_weights import Quantization

TOKENS = 100_000  # ids of a block, about: some seconds of a core
FEWEST, MOST = 64, 1 << 16  # items of a block
BEGIN, END = "begin", "end"


@dataclass(frozen=True)
class ItemWork:
    """Draws the items of a block. constraint: what they must match, which each process compiles for itself."""

    model: SharedModel
    request: ItemRequest
    constraint: Constraint | None

    def __call__(self, table: Table) -> Table:
        """The items with the numbers from `begin` to `end` - 1 of the only row."""
        import pyarrow as pa

        begin, end = table[BEGIN][0].as_py(), table[END][0].as_py()
        checkpoint, decoder = ready(self.model)
        request = self.request
        if self.constraint is not None:
            request = replace(request, constraint=ready_constraint(self.model, self.constraint))
        with drawn_items(decoder, checkpoint.tokenizer, request, start=begin, end=end, threads=1) as items:
            drawn = list(items)
        schema = [("number", pa.int64()), ("text", pa.string()), ("finish_reason", pa.string()), ("tokens", pa.int64())]
        return pa.Table.from_pylist([item._asdict() for item in drawn], pa.schema(schema))


class ItemCluster:
    """A cluster that draws the items of one request.

    constraint: that of the request, before it is compiled. nodes: how many blocks each node has done.
    """

    def __init__(
        self,
        address: str,
        checkpoint: Checkpoint,
        quantization: Quantization,
        request: ItemRequest,
        constraint: Constraint | None = None,
    ) -> None:
        self._connection = Connection(address)
        self._blocks = OrderedBlocks(self._connection)
        self._checkpoint, self._quantization = checkpoint, quantization
        self._request, self._constraint = replace(request, constraint=None), constraint
        self._items = self._tokens = 0
        self.nodes = self._blocks.nodes

    @contextmanager
    def drawn(self, start: int, end: int | None) -> Iterator[Iterator[Item]]:
        """Items number `start` to `end` - 1 in order, or without an end as many as are taken; see `drawn_items`."""
        with self._connection:
            model = SharedModel.of(self._checkpoint, self._quantization)
            yield self._in_order(ItemWork(model, self._request, self._constraint), start, end)

    def _in_order(self, work: ItemWork, start: int, end: int | None) -> Iterator[Item]:
        for table in self._blocks.work(self._begun(start, end), work):
            if table is None:
                continue
            self._items += len(table)
            self._tokens += sum(table["tokens"].to_pylist())
            for row in table.to_pylist():
                yield Item(**row)

    def _begun(self, start: int, end: int | None) -> Iterator[Table]:
        """The numbers of the items of each block; blocks are as large as the items drawn so far advise."""
        import pyarrow as pa

        at = start
        while at != end:
            size = TOKENS * self._items // self._tokens if self._tokens else FEWEST
            if end is not None:
                size = min(size, (end - at) // self._connection.cores)
            size = min(max(size, FEWEST), MOST)
            until = at + size if end is None else min(end, at + size)
            yield pa.table({BEGIN: pa.array([at], pa.int64()), END: pa.array([until], pa.int64())})
            at = until
