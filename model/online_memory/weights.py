"""The learnt weights of the online memory: how far what followed a context before is believed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.errors import ParameterError

NAME = "online_memory"  # of the block in the `training` table of config.json
ORDERS = (2, 3, 4, 5, 6, 8)  # ids of a context
GROUPS = (0, 1, 1, 2, 2, 2)  # which contexts share weights
OFTEN, DIFFERENT, SURE = 3, 3, 6  # kinds of how often a context was met, how much followed it, what is thought without
WEIGHTS = (max(GROUPS) + 1) * OFTEN * DIFFERENT * SURE
LOWEST, HIGHEST = 0.0001, 0.9999
START = 0.1  # of each weight before it is fitted
FITTING = (
    "The checkpoint has no weights for the online memory; fit them with "
    "`unroll evaluate CHECKPOINT CORPUS --split SPLIT --write-memory`."
)
OF_ITEMS = "The checkpoint writes items, each for itself, and the online memory is for one long text; leave it out."


def lacking(items: bool) -> str:
    """What to do about a checkpoint that has no weights, in a sentence. items: whether it is one of items."""
    return OF_ITEMS if items else FITTING


@dataclass(frozen=True)
class MemoryWeights:
    """The weight of a context in each situation that is told apart, fitted on held-out text.

    values: (WEIGHTS,), by group of contexts, how often it was met, how many different ids followed, and how likely the
        likeliest of them is without it. protocol: what they were fitted on, in words.
    """

    values: tuple[float, ...] = (START,) * WEIGHTS
    protocol: str = "not fitted"

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> "MemoryWeights | None":
        """What a checkpoint's `training` table holds; None where there is nothing, or not what `to_json` wrote."""
        written = training.get(NAME)
        if not isinstance(written, dict) or written.get("orders") != list(ORDERS):
            return None
        values, protocol = written.get("weights"), written.get("protocol")
        if not isinstance(values, list) or len(values) != WEIGHTS or not isinstance(protocol, str):
            return None
        if not all(type(one) is float and math.isfinite(one) and LOWEST <= one <= HIGHEST for one in values):
            return None
        return cls(tuple(values), protocol)

    @classmethod
    def required(cls, training: Mapping[str, Any], items: bool) -> "MemoryWeights":
        """The same. items: whether the checkpoint is one of items.

        Raises ParameterError, which names the remedy, where there is nothing.
        """
        found = cls.of(training)
        if found is None:
            raise ParameterError("memory", lacking(items))
        return found

    def to_json(self) -> dict[str, Any]:
        """The weights as JSON values."""
        return {"protocol": self.protocol, "orders": list(ORDERS), "weights": list(self.values)}
