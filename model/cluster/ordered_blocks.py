"""Blocks of rows worked on by Ray Data and told in their order, none lost and none twice, also where nodes are."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from model.cluster.connection import Connection
from model.errors import UnrollError

FIRST, MOST = 2, 64  # blocks of a window, for each core of the cluster
BLOCK, NODE = "block", "node"  # columns beside those of the work: which block it is, and which node had it
ERROR = "error"  # the only other column where the work failed: how, in words

Table = Any  # of pyarrow, which comes with Ray


@dataclass(frozen=True)
class Task:
    """What a core does with a block.

    work: a table to a table with as many rows as there are results. version: of Unroll where the work was asked for.
    """

    work: Callable[[Table], Table]
    version: str

    def __call__(self, table: Table) -> Table:
        """Work on a block, which keeps its number. What fails is told as a row: Ray Data would bury it in its own."""
        import pyarrow as pa
        import ray

        try:
            if (here := version("unroll")) != self.version:
                raise UnrollError(f"it has Unroll {here}, and {self.version} asks")
            done = self.work(table.drop_columns([BLOCK]))
        except Exception as error:
            kind = "" if isinstance(error, UnrollError) else f"{type(error).__name__}: "
            done = pa.table({ERROR: [f"{kind}{error}"]})
        node = ray.get_runtime_context().get_node_id()[:12]
        number = table[BLOCK][0].as_py()
        done = done.append_column(BLOCK, pa.repeat(pa.scalar(number, pa.int64()), len(done)))
        return done.append_column(NODE, pa.repeat(node, len(done)))


class OrderedBlocks:
    """Has a cluster work on blocks that come one by one, a window of them at a time.

    Ray Data wants to know all of its blocks at the start, so each window is a data set of its own. Windows grow, so
    that their beginnings do not count. Blocks have at least a row, and so have their results.

    nodes: how many blocks each node has done.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._number = 0
        self.nodes: Counter[str] = Counter()

    def work(self, blocks: Iterable[Table | None], work: Callable[[Table], Table]) -> Iterator[Table | None]:
        """The results of blocks in order; None once all before it are told, where there is None among the blocks.

        A block that a lost node had is worked on again elsewhere. Raises UnrollError where the work itself fails.
        """
        task = Task(work, version("unroll"))
        window: list[Table] = []
        size = FIRST
        for block in blocks:
            if block is not None:
                window.append(block)
            if block is None or len(window) >= size * self._connection.cores:
                yield from self._worked(window, task)
                window, size = [], min(MOST, 2 * size)
            if block is None:
                yield None
        yield from self._worked(window, task)

    def _worked(self, window: list[Table], task: Task) -> Iterator[Table]:
        if not window:
            return
        import pyarrow as pa
        import ray

        first, self._number = self._number, self._number + len(window)
        numbered = [
            block.append_column(BLOCK, pa.repeat(pa.scalar(first + at, pa.int64()), len(block)))
            for at, block in enumerate(window)
        ]
        data = ray.data.from_arrow(numbered).map_batches(
            task, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, num_cpus=1
        )
        expected = first
        try:
            for table in data.iter_batches(batch_size=None, batch_format="pyarrow"):
                number, node = table[BLOCK][0].as_py(), table[NODE][0].as_py()
                if number != expected:
                    raise UnrollError(f"Ray gave block {number:,} where {expected:,} was due; begin again.")
                expected += 1
                self.nodes[node] += 1
                if ERROR in table.column_names:
                    raise _failed(table[ERROR][0].as_py())
                yield table.drop_columns([BLOCK, NODE])
        except ray.exceptions.RayError as error:
            raise _failed(str(error).strip().rpartition("\n")[2]) from error
        if expected != self._number:
            raise UnrollError(f"Ray lost block {expected:,}; begin again.")


def _failed(said: str) -> UnrollError:
    return UnrollError(
        f"A node of the cluster could not do its part: {said.rstrip('.')}. Each needs the same Python and the same "
        "Unroll, with its extra `ray`."
    )
