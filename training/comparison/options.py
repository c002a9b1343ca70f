"""Every option of `unroll compare`, each said once."""

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal, get_args

from model.command_line.options import above_zero, check_ranges, option, whole
from model.commands.common import JSON
from model.errors import ParameterError
from training.comparison.sizes import Compared
from training.data.split_scheme import DEFAULT, IN_WORDS, shares_of
from training.planning.train_options import Precision

MINUTES = 20.0  # the budget where none was chosen


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """What a user asks of a comparison.

    Raises ParameterError on a number out of range, an unknown cell or split, and two budgets.
    """

    names: tuple[str, ...] = option(
        MISSING,
        "Files, folders or archives of a corpus; or two checkpoints or runs, and the text to compare them on.",
        metavar="CORPUS... | RUN_A RUN_B TEXT",
        argument=True,
    )
    cells: str = option(
        "rnn,gru,lstm", "Cells to compare, commas between them: rnn, gru, lstm, and hybrid, an LSTM with attention."
    )
    minutes: float | None = option(
        None,
        "Budget of the whole comparison.",
        shown=f"{MINUTES:g}, or none with --steps",
        range=above_zero(100_000),
    )
    steps: int | None = option(
        None,
        "Steps of each network instead; then the comparison repeats itself exactly, but for times, and has no table of "
        "equal time.",
        shown="none",
        range=whole(1, 1_000_000),
    )
    seeds: int = option(3, "Networks of each cell, whose median and range are told.", range=whole(1, 100))
    parameters: int = option(
        200_000, "Parameters of each network, as near as its width allows.", range=whole(20_000, 100_000_000)
    )
    precision: Literal["auto", Precision] = option(
        "auto",
        "Of the matrix products in training. auto is bf16 where the hardware has it, in which the LSTM has a kernel of "
        "its own; fp32 trains all cells alike.",
    )
    split: str = option(DEFAULT, IN_WORDS)
    encoding: str = option("utf-8", "Text encoding of the corpus: utf-8, latin-1, cp1252, utf-16 …")
    out: Path | None = option(
        None, "Folder of the comparison. One that was ended is gone on with.", shown="runs/compare-CORPUS"
    )
    as_json: bool = option(False, JSON, flag="--json")

    def __post_init__(self) -> None:
        check_ranges(self, CompareOptions)
        shares_of(self.split)
        if self.minutes is not None and self.steps is not None:
            raise ParameterError("steps", "--minutes and --steps are two budgets; choose one.")
        known = get_args(Compared)
        if not self.cell_names or set(self._named()) - set(known):
            raise ParameterError("cells", f"--cells is {self.cells!r}; choose among {', '.join(known)}.")

    @property
    def cell_names(self) -> tuple[Compared, ...]:
        """The cells, each once, in the order they were named."""
        named = self._named()
        return tuple(sorted((cell for cell in get_args(Compared) if cell in named), key=named.index))

    def _named(self) -> list[str]:
        return [name.strip() for name in self.cells.split(",") if name.strip()]
