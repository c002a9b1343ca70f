"""The shape of a network: cell, layers and widths, and every tensor that follows from them."""

from dataclasses import asdict, dataclass, fields
from reprlib import repr as brief
from typing import Any, Literal, get_args

from model.cells.attention import BLOCK, KEY, OUTPUTS, WINDOWS, state_widths
from model.cells.spec import CELLS, Cell
from model.cells.state_layout import StateLayout
from model.errors import ParameterError

WeightsDtype = Literal["float32", "float16"]
"""How a checkpoint stores its weights."""

# Bounds that refuse a typing error or a hostile file, far above what a character model needs.
LIMITS = {"layers": (1, 16), "hidden": (1, 8192), "embedding": (1, 8192), "vocabulary": (257, 1_114_368)}

# Four gigabytes in float32, some ten times the largest character model that was written about (Radford et al. 2017):
# each width may be the largest, but not all of them together.
MOST_PARAMETERS = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The hyper-parameters that fix every tensor's shape, equal for all three cells.

    cell: "lstm", "gru" or "rnn" (the simple, Elman, recurrent network).
    layers: recurrent layers, each reading the hidden state of the one below.
    hidden: width of the hidden state (and of an LSTM's cell state).
    embedding: width of a character's embedding.
    vocabulary: ids the tokenizer knows: 256 bytes and the characters.
    skip: whether the output reads the hidden state of every layer, not of the last alone (Graves 2013, section 2).
    attention: how many characters back it may point at what followed; see `model.cells.attention`. 0 = none.
    """

    cell: Cell = "lstm"
    layers: int = 2
    hidden: int = 512
    embedding: int = 128
    vocabulary: int
    skip: bool = False
    attention: int = 0

    def __post_init__(self) -> None:
        if self.cell not in get_args(Cell):
            raise ParameterError("cell", f"cell is {brief(self.cell)}; choose one of lstm, gru, rnn.")
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ParameterError(name, f"{name} is {brief(value)}; choose a whole number from {least} to {most}.")
        if type(self.skip) is not bool:
            raise ParameterError("skip", f"skip is {brief(self.skip)}; choose true or false.")
        least, most = WINDOWS
        if type(self.attention) is not int or (self.attention and not least <= self.attention <= most):
            raise ParameterError(
                "attention", f"attention is {brief(self.attention)}; choose 0 for none, or {least} to {most}."
            )
        if self.attention % BLOCK:
            nearest = round(self.attention / BLOCK) * BLOCK
            raise ParameterError(
                "attention", f"attention is {self.attention}; choose a multiple of {BLOCK}, such as {nearest}."
            )
        if self.parameters() > MOST_PARAMETERS:
            raise ParameterError(
                "hidden",
                f"the network would have {self.parameters():,} parameters; choose fewer layers or narrower ones, "
                f"up to {MOST_PARAMETERS:,}.",
            )

    @classmethod
    def from_json(cls, values: Any) -> "NetworkConfig":
        """Read what `to_json` wrote, of this version or an earlier one.

        Raises ParameterError on a missing, unknown or wrong entry.
        """
        if not isinstance(values, dict):
            raise ParameterError("network", "the network's configuration is not a table of names and values.")
        if "dropout" in values:  # as the first version of the format has it: of training alone, and before this one
            values = {"skip": False, **{name: values[name] for name in values if name != "dropout"}}
        if "zoneout" in values:  # as versions had it that knew zoneout
            zoneout = values["zoneout"]
            if type(zoneout) not in (int, float) or zoneout != 0:
                raise ParameterError("zoneout", f"zoneout is {brief(zoneout)}; choose 0: this version has no zoneout.")
            values = {name: values[name] for name in values if name != "zoneout"}
        values = {"attention": 0, **values}  # as of before there was attention, and without it
        names = {field.name for field in fields(cls)}
        if wrong := names.symmetric_difference(values):
            raise ParameterError(
                "network", f"the network's configuration lacks or does not know: {brief(sorted(wrong))}."
            )
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON values; of a network without attention, such as earlier versions read, too."""
        values = asdict(self)
        if not self.attention:
            del values["attention"]
        return values

    def layer_state(self, layer: int) -> list[str]:
        """The parts of a row's state that one layer carries, its hidden state first: h0, c0 of an LSTM's layer 0."""
        return [f"{part}{layer}" for part in CELLS[self.cell].state]

    def state_layout(self) -> StateLayout:
        """What a row carries between characters: the parts of each layer, from the lowest up; then its attention's."""
        return StateLayout(self.layer_widths() | (state_widths(self.attention) if self.attention else {}))

    def layer_widths(self) -> dict[str, int]:
        """The parts of the layers alone: units, each of which is a number."""
        return {name: self.hidden for layer in range(self.layers) for name in self.layer_state(layer)}

    def units(self) -> int:
        """How many there are; a state begins with them."""
        return sum(self.layer_widths().values())

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight; the names are those of the PyTorch network's state_dict."""
        rows = CELLS[self.cell].gates * self.hidden
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (self.vocabulary, self.embedding)}
        for layer in range(self.layers):
            below = self.hidden if layer else self.embedding
            shapes[f"layers.{layer}.weight_ih_l0"] = (rows, below)
            shapes[f"layers.{layer}.weight_hh_l0"] = (rows, self.hidden)
            shapes[f"layers.{layer}.bias_ih_l0"] = (rows,)
            shapes[f"layers.{layer}.bias_hh_l0"] = (rows,)
        shapes["out.weight"] = (self.vocabulary, self.output_width())
        shapes["out.bias"] = (self.vocabulary,)
        if self.attention:
            shapes["attention.recency"] = (self.attention - 1,)
            shapes["attention.project.weight"] = (OUTPUTS, self.output_width())
            shapes["attention.project.bias"] = (OUTPUTS,)
        return shapes

    def output_width(self) -> int:
        """How many numbers the output reads: the hidden state of the last layer, or of all."""
        return self.hidden * (self.layers if self.skip else 1)

    def parameters(self) -> int:
        """How many numbers the network learns."""
        total = 0
        for shape in self.tensor_shapes().values():
            size = 1
            for width in shape:
                size *= width
            total += size
        return total


def products(network: NetworkConfig) -> int:
    """Weights used per character: all but the embedding, of which a character uses a row; and the keys of a window."""
    return network.parameters() - network.vocabulary * network.embedding + network.attention * KEY


REMOVED = "which this version of Unroll no longer has; train it anew, or use the version that wrote it."


def removed(network: Any, plan: Any) -> str:
    """What Unroll no longer has and a checkpoint or run uses, in words; "" where it uses nothing of it.

    network, plan: its network's configuration and its plan, as JSON has them, unchecked.
    """
    zoneout = network.get("zoneout") if isinstance(network, dict) else None
    regularisation = plan.get("regularisation") if isinstance(plan, dict) else None
    used = []
    if type(zoneout) is float and 0 < zoneout < 1:
        used.append(f"zoneout {zoneout:g}")
    if isinstance(regularisation, dict) and regularisation.get("tied") is True:
        used.append("tied weights")
    return " and ".join(used)
