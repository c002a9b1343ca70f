"""The strengths of all regularisers of a run, as numbers with ranges."""

from dataclasses import dataclass

from model.command_line.options import check_ranges
from training.planning.train_options import PlanOverrides


@dataclass(frozen=True, kw_only=True)
class Regularisation:
    """Shares of what is left out by chance while training, 0 to below 1; what is left in is scaled up for it.

    input_dropout, layer_dropout, output_dropout: of the embeddings, of the hidden states between two layers, and of
    what the output reads (Zaremba et al. 2014).
    locked: whether a mask holds for a whole window (Gal & Ghahramani 2016) rather than for one character.
    weight_drop: of the recurrent weights W_hh, one mask for a window (Wan et al. 2013; Merity et al. 2018).
    drop_state: of the sequences, which start a window from a zero state, as a served text does (Melis et al. 2018).
    """

    input_dropout: float = 0.0
    layer_dropout: float = 0.0
    output_dropout: float = 0.0
    locked: bool = True
    weight_drop: float = 0.0
    drop_state: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, PlanOverrides)
