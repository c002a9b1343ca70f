"""The processes that train one network together, and how they exchange data."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from model.errors import TrainingError
from training.data.batches import Window


class RankLost(TrainingError):
    """Another process of the run has ended, or cannot be reached any more."""


@dataclass(frozen=True)
class Ranks:
    """The rank of this process in a run; rows of a batch are distributed over the ranks one by one.

    number: the rank; 0 writes the run's files.
    count: the number of all processes.
    local: the number of this process among the `here` processes of its machine.
    job: names the common start of all; "" for a single process. restarts: how often torchrun has restarted them.

    All sums are in an order that depends only on the count, so that equal runs have equal bytes. Every method except
    the properties must be called by all processes at the same point; each raises RankLost if one of them has ended.
    """

    number: int = 0
    count: int = 1
    local: int = 0
    here: int = 1
    job: str = ""
    restarts: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the run's files."""
        return self.number == 0

    @property
    def rows(self) -> slice:
        """The rows of a batch that belong to this process."""
        return slice(self.number, None, self.count)

    def rows_of(self, first: int) -> int:
        """How many of the first rows of a batch belong to this process."""
        return len(range(self.number, first, self.count))

    def share(self, window: Window) -> Window:
        """The rows of a window that belong to this process; if rows end early, there may be none."""
        if self.count == 1:
            return window
        inputs, targets = (np.ascontiguousarray(part[self.rows]) for part in (window.inputs, window.targets))
        of_rows = (window.counts, window.usual, window.learnt)
        counts, usual, learnt = (None if part is None else part[self.rows] for part in of_rows)
        taught = None if window.taught is None else window.taught.at(self.rows)
        return window._replace(inputs=inputs, targets=targets, counts=counts, usual=usual, learnt=learnt, taught=taught)

    def sum(self, values: Tensor) -> None:
        """Add up the values of all processes, in place."""
        if self.count == 1:
            return
        with _met(self):
            if self.count > 2 or values.device.type != "cpu":
                dist.all_reduce(values)
                return
            # Two processes exchange everything at once, in half the time of a ring, which goes round twice.
            values.add_(self._exchanged(values))

    def sum_in_bf16(self, values: Tensor) -> None:
        """The same, for values (n,) that are sent in bfloat16: half the bytes. The sums are in fp32, rounded once."""
        if self.count == 1:
            return
        with _met(self):
            rounded = values.to(torch.bfloat16)
            if self.count == 2 and values.device.type == "cpu":
                torch.add(rounded.float(), self._exchanged(rounded), out=values)
                return
            size = -(-len(values) // self.count)
            sent = torch.zeros(self.count, size, dtype=torch.bfloat16, device=values.device)
            sent.view(-1)[: len(values)] = rounded
            pieces = torch.empty_like(sent)
            dist.all_to_all_single(pieces, sent)
            dist.all_gather(list(sent), pieces.float().sum(0).to(torch.bfloat16))
            values.copy_(sent.view(-1)[: len(values)])

    def _exchanged(self, values: Tensor) -> Tensor:
        """The values of the other one of two processes."""
        other = torch.empty_like(values)
        for work in [dist.isend(values, 1 - self.number), dist.irecv(other, 1 - self.number)]:
            if work is not None:
                work.wait()
        return other

    def whole(self, part: Tensor, rows: int) -> Tensor:
        """A tensor of all rows (rows, …) from the rows of each process (n, …)."""
        if self.count == 1:
            return part
        every = part.new_zeros(rows, *part.shape[1:])
        every[self.rows] = part
        self.sum(every)
        return every

    def of_first(self, make: Callable[[], Any]) -> Any:
        """The result of a call in the first process, as JSON values, in all processes; the others do not make the
        call."""
        if self.count == 1:
            return make()
        content = self.bytes_of_first(lambda: json.dumps(make()).encode())
        return json.loads(content)

    def bytes_of_first(self, make: Callable[[], bytes]) -> bytes:
        """The bytes from a call in the first process, in all processes."""
        content = make() if self.first else b""
        if self.count == 1:
            return content
        with _met(self):
            size = torch.tensor([len(content)])
            dist.broadcast(size, 0)
            sent = torch.empty(int(size), dtype=torch.uint8)
            if self.first:
                sent.numpy()[:] = np.frombuffer(content, np.uint8)
            dist.broadcast(sent, 0)
        return sent.numpy().tobytes()

    def of_each(self, value: Any) -> list[Any]:
        """The values of each process, as JSON values, in the order of ranks."""
        if self.count == 1:
            return [value]
        with _met(self):
            content = np.frombuffer(json.dumps(value).encode(), np.uint8)
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
            dist.all_gather(sizes, torch.tensor([len(content)]))
            longest = int(max(sizes))
            sent = torch.zeros(longest, dtype=torch.uint8)
            sent.numpy()[: len(content)] = content
            every = [torch.empty_like(sent) for _ in sizes]
            dist.all_gather(every, sent)
        return [json.loads(one.numpy()[: int(size)].tobytes()) for one, size in zip(every, sizes, strict=True)]

    def dealt(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        """The results of some pieces of work, as JSON values, in order; they are distributed over the ranks one by
        one."""
        every = self.of_each([work() for work in works[self.number :: self.count]])
        return [every[place % self.count][place // self.count] for place in range(len(works))]

    @contextmanager
    def first_of_machine_first(self) -> Iterator[None]:
        """Run the block first in a machine's first process, and then in the others, so that they find its results."""
        if self.count > 1 and self.local:
            self.wait()
        yield
        if self.count > 1 and not self.local:
            self.wait()

    def wait(self) -> None:
        """Wait until all processes are here."""
        with _met(self):
            dist.barrier()


ALONE = Ranks()


@contextmanager
def _met(ranks: Ranks) -> Iterator[None]:
    """Raise RankLost with a message if another process has ended."""
    try:
        yield
    except RuntimeError as error:  # gloo and nccl raise no more specific error
        cause = str(error).partition("\n")[0].rpartition("] ")[2].rstrip(". ")
        raise RankLost(
            f"Rank {ranks.number} of {ranks.count} cannot reach the others any more ({cause}): one has ended, or the "
            "network has failed."
        ) from error
