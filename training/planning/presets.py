"""Sizes, rates and shares that were chosen for a machine, by name."""

from dataclasses import replace
from typing import Any

from model.errors import ParameterError
from training.planning.train_options import TrainOptions

PRESETS: dict[str, dict[str, Any]] = {
    # For Shakespeare on one data-centre GPU in three minutes, at most 5.3 M parameters. Written from the recipes of
    # the literature and what two cores showed; no GPU has run it yet. `python -m tests.benchmarks gpu` measures it.
    "gpu": {
        "layers": 2,
        "hidden": 640,
        "embedding": 56,
        "batch_size": 64,
        "sequence_length": 128,
        "learning_rate": 3e-3,
        "input_dropout": 0.1,
        "layer_dropout": 0.4,
        "output_dropout": 0.4,
        "weight_drop": 0.3,
        "drop_state": 0.02,
        "minutes": 3.0,
    },
}


def with_preset(options: TrainOptions, given: set[str]) -> TrainOptions:
    """What the user chose, and for the rest what the preset says, where one was named.

    given: the names of what was chosen on the command line. Raises ParameterError on a name there is not.
    """
    if options.preset is None:
        return options
    if options.preset not in PRESETS:
        raise ParameterError("preset", f"--preset is {options.preset!r}; choose one of {', '.join(PRESETS)}.")
    left = given | {"minutes"} if "epochs" in given else given
    planned = {name: value for name, value in PRESETS[options.preset].items() if name not in left}
    return replace(options, overrides=replace(options.overrides, **planned))
