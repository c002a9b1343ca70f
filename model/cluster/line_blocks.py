"""Lines scored in blocks all over a cluster: the figures that one machine gives."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from model.bulk.score import LineScore, LineScorer
from model.checkpoint import Checkpoint
from model.cluster.connection import Connection
from model.cluster.ordered_blocks import OrderedBlocks, Table
from model.cluster.shared_model import KEPT, SharedModel, ready
from model.decoding.step_weights import Quantization
from model.held_out_surprise import HeldOutSurprise
from model.online_memory.weights import MemoryWeights


@dataclass(frozen=True, kw_only=True)
class LineSettings:
    """How lines are scored; see `model.bulk.score.LineScorer`."""

    context: str = ""
    surprises: bool = False
    highest: bool = False
    ends: bool = False
    memory: MemoryWeights | None = None


@dataclass(frozen=True)
class LineWork:
    """Scores the lines of a block."""

    model: SharedModel
    settings: LineSettings

    def __call__(self, table: Table) -> Table:
        """The scores of the lines in the column `text`."""
        import pyarrow as pa

        scores = scorer(self).score([table["text"].to_pylist()])
        rows = [
            {**one._asdict(), "surprises": None if one.surprises is None else one.surprises.tolist()}
            for one in scores
            if one is not None
        ]
        figures = [(name, pa.float64()) for name in ("bits", "bits_per_character", "percentile", "highest")]
        schema = [("text", pa.string()), ("characters", pa.int64()), *figures, ("surprises", pa.list_(pa.float64()))]
        return pa.Table.from_pylist(rows, pa.schema(schema))


@lru_cache(KEPT)
def scorer(work: LineWork) -> LineScorer:
    """What scores lines in a process of a node, on one thread."""
    checkpoint, decoder = ready(work.model)
    settings = work.settings
    return LineScorer(
        decoder,
        checkpoint.tokenizer,
        HeldOutSurprise.of(checkpoint.training),
        context=settings.context,
        surprises=settings.surprises,
        highest=settings.highest,
        ends=settings.ends,
        memory=settings.memory,
        threads=1,
    )


class LineCluster:
    """A cluster that scores lines, for a `with` block. nodes: how many blocks each node has done."""

    def __init__(
        self, address: str, checkpoint: Checkpoint, quantization: Quantization, settings: LineSettings
    ) -> None:
        self._connection = Connection(address)
        self._blocks = OrderedBlocks(self._connection)
        self._checkpoint, self._quantization, self._settings = checkpoint, quantization, settings
        self.nodes: Counter[str] = self._blocks.nodes

    def __enter__(self) -> "LineCluster":
        self._connection.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.__exit__()

    def score(self, blocks: Iterable[list[str] | None]) -> Iterator[LineScore | None]:
        """The scores of lines that come in blocks, in order; None as in `LineScorer.score`."""
        import pyarrow as pa

        work = LineWork(SharedModel.of(self._checkpoint, self._quantization), self._settings)
        tables = (None if block is None else pa.table({"text": pa.array(block, pa.string())}) for block in blocks)
        for table in self._blocks.work(tables, work):
            if table is None:
                yield None
                continue
            for row in table.to_pylist():
                surprises = row.pop("surprises")
                yield LineScore(**row, surprises=None if surprises is None else np.array(surprises, np.float64))
