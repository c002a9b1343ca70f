"""Sizes, rates and shares that were chosen for a machine, by name."""

from typing import Any

from model.errors import ParameterError

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


def with_preset(name: str | None, chosen: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """What the user chose, and for the rest what a preset says.

    given: the names of what was chosen on the command line. Raises ParameterError on a name there is not.
    """
    if name is None:
        return chosen
    if name not in PRESETS:
        raise ParameterError("preset", f"preset is {name!r}; choose one of {', '.join(PRESETS)}.")
    preset = PRESETS[name]
    if "epochs" in given and "minutes" not in given:
        preset = {key: value for key, value in preset.items() if key != "minutes"}
    return {**chosen, **{key: value for key, value in preset.items() if key not in given}}
