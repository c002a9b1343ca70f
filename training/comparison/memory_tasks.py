"""Tasks that are nothing but remembering: copy, recall of the first symbol, and the adding problem, at growing delays.

Hochreiter & Schmidhuber 1997 (adding), Arjovsky et al. 2016 (copying); lengths and losses as in the code of Bai et al.
2018. A network learns the shortest delay first, and goes on from there at the next.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cells.spec import Cell
from model.cells.torch_cells import TORCH_CELLS
from model.config import NetworkConfig
from model.network import initialise
from training.comparison.parts import Part
from training.comparison.sizes import layer_parameters, nearest_width
from training.row_threads import one_kernel_thread

DELAYS = (10, 50, 100, 200, 500)
SHARES = {10: 6.0, 50: 3.0, 100: 2.0, 200: 1.0, 500: 0.5}  # steps at each, of the plan's; short ones cost little
SYMBOLS, COPIED = 8, 10
BATCH, JUDGED = 32, 256  # sequences of a step, and sequences that the result is measured on
PARAMETERS = 20_000
RATES: dict[Cell, float] = {"lstm": 3e-3, "gru": 3e-3, "rnn": 1e-3}
REACHED = 0.9  # of the answers right, or of the variance explained


@dataclass(frozen=True)
class Task:
    """A task. inputs: numbers read a step. answers: last steps at which something is asked.

    outputs: symbols to choose among, or 1 where the answer is a number. baseline: the loss of one who remembers
    nothing, nats or squared error. draw: inputs (T, B, inputs) and answers (answers, B) at a delay.
    """

    inputs: int
    answers: int
    outputs: int
    baseline: float
    draw: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]


def _copy(delay: int, rows: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ten symbols, blanks, a mark; the symbols are asked for after it."""
    symbols = torch.randint(SYMBOLS, (COPIED, rows), generator=random)
    blanks, marks = torch.full((delay - 1, rows), SYMBOLS), torch.full((COPIED + 1, rows), SYMBOLS + 1)
    return F.one_hot(torch.cat([symbols, blanks, marks]), SYMBOLS + 2).float(), symbols


def _recall(delay: int, rows: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A symbol, then others at random, then a mark at which the first is asked for."""
    symbols = torch.randint(SYMBOLS, (delay, rows), generator=random)
    return F.one_hot(torch.cat([symbols, torch.full((1, rows), SYMBOLS)]), SYMBOLS + 1).float(), symbols[:1]


def _adding(delay: int, rows: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers from 0 to 1, one marked in each half; at the end their sum is asked for."""
    numbers, half, every = torch.rand((delay, rows), generator=random), delay // 2, torch.arange(rows)
    places = torch.randint(half, (2, rows), generator=random) + torch.tensor([[0], [delay - half]])
    marks = torch.zeros(delay, rows)
    marks[places, every] = 1
    return torch.stack([numbers, marks], -1), numbers[places, every].sum(0, keepdim=True)


TASKS = {
    "copy": Task(SYMBOLS + 2, COPIED, SYMBOLS, math.log(SYMBOLS), _copy),
    "recall": Task(SYMBOLS + 1, 1, SYMBOLS, math.log(SYMBOLS), _recall),
    "adding": Task(2, 1, 1, 1 / 6, _adding),
}


class TaskNetwork(nn.Module):
    """One recurrent layer and a linear map from its hidden state to the answer."""

    def __init__(self, cell: Cell, task: Task) -> None:
        super().__init__()

        def parameters(hidden: int) -> int:
            return layer_parameters(cell, task.inputs, hidden) + (hidden + 1) * task.outputs

        self.hidden = nearest_width(parameters, PARAMETERS, step=4)
        self.layer = TORCH_CELLS[cell].module(task.inputs, self.hidden)
        initialise(self.layer, NetworkConfig(cell=cell, vocabulary=257))
        self.out = nn.Linear(self.hidden, task.outputs)

    def forward(self, x: Tensor, answers: int) -> Tensor:
        """x: (T, B, inputs). Returns (answers, B, outputs)."""
        read, _ = self.layer(x)
        answer: Tensor = self.out(read[-answers:])
        return answer


def task_network(cell: Cell, name: str, seed: int) -> TaskNetwork:
    """A network to learn a task. It is made under PyTorch's own random numbers, so not by several threads at once."""
    torch.manual_seed(seed)
    return TaskNetwork(cell, TASKS[name])


def learn_task(network: TaskNetwork, cell: Cell, name: str, steps: int, seed: int) -> Part:
    """Learn a task at each delay in turn, and say how well it went. steps: at a delay, times its share."""
    task, random = TASKS[name], torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATES[cell])
    found, reached = {}, 0
    for delay in DELAYS:
        taken = steps_at(delay, steps)
        with one_kernel_thread():
            for _ in range(taken):
                optimiser.zero_grad()
                x, wanted = task.draw(delay, BATCH, random)
                _loss(task, network(x, task.answers), wanted).backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
            found[str(delay)] = result = {"steps": taken, **_judge(task, network, delay)}
        reached = delay if result["share"] >= REACHED else reached
    figures = {"hidden": network.hidden, "baseline": task.baseline, "delays": found, "reached": reached}
    return {"figures": figures, "times": {}}


def steps_at(delay: int, steps: int) -> int:
    """Steps at a delay where the plan says `steps`."""
    return max(1, round(SHARES[delay] * steps))


def _loss(task: Task, answer: Tensor, wanted: Tensor) -> Tensor:
    if task.outputs == 1:
        return F.mse_loss(answer[..., 0], wanted)
    return F.cross_entropy(answer.flatten(0, 1), wanted.flatten())


def _judge(task: Task, network: TaskNetwork, delay: int) -> dict[str, float]:
    """The loss, and the share of answers right, or of the variance explained, on sequences never learnt from."""
    x, wanted = task.draw(delay, JUDGED, torch.Generator().manual_seed(delay))
    with torch.no_grad():
        answer = network(x, task.answers)
        loss = float(_loss(task, answer, wanted))
        if task.outputs == 1:
            return {"loss": loss, "share": max(0.0, 1 - loss / task.baseline)}
        return {"loss": loss, "share": float((answer.argmax(-1) == wanted).double().mean())}
