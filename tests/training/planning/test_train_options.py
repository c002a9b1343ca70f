"""An option of training is said once: its range holds wherever its number is, and its flag is what an error names."""

import math
import re
from collections.abc import Callable
from dataclasses import Field, fields, replace
from typing import Any

import pytest

from model.command_line.options import about, flag_of, former_flags, options_of
from model.config import NetworkConfig
from model.errors import ParameterError
from training.planning.config import TrainingConfig
from training.planning.presets import PRESETS, with_preset
from training.planning.regularisation import Regularisation
from training.planning.train_options import PlanOverrides, TrainOptions

NETWORK = NetworkConfig(layers=1, hidden=8, embedding=4, vocabulary=300)
RANGED = [one for one in options_of(TrainOptions) if about(one).range is not None]


def name_of(one: Field[Any]) -> str:
    return one.name


def homes(name: str) -> list[Callable[..., Any]]:
    """What holds the number of that name, made from it alone."""
    kinds: dict[type, Callable[..., Any]] = {
        TrainOptions: TrainOptions,
        PlanOverrides: PlanOverrides,
        Regularisation: Regularisation,
        TrainingConfig: lambda **values: TrainingConfig(network=NETWORK, **values),
    }
    return [made for kind, made in kinds.items() if name in {one.name for one in fields(kind)}]


@pytest.mark.parametrize("one", RANGED, ids=name_of)
def test_a_number_out_of_range_is_refused_by_its_flag_wherever_it_is(one: Field[Any]) -> None:
    allowed = about(one).range
    assert allowed is not None
    outside = [allowed.least - 1, math.nan] + ([] if math.isinf(allowed.most) else [allowed.most * 2])
    assert homes(one.name)
    for make in homes(one.name):
        make(**{one.name: allowed.least})
        for value in outside:
            with pytest.raises(ParameterError, match=re.escape(f"; choose {allowed.words}.")) as caught:
                make(**{one.name: value})
            assert str(caught.value).startswith(f"{flag_of(one)} is ")
            assert caught.value.parameter == one.name


def test_every_number_of_a_plan_has_a_range() -> None:
    kinds = (PlanOverrides, TrainingConfig, Regularisation)
    numbers = {one.name for kind in kinds for one in fields(kind) if {"int", "float"} & set(str(one.type).split())}
    numbers |= {one.name for kind in kinds for one in fields(kind) if one.type in (int, float)}
    assert numbers >= {"minutes", "learning_rate", "layer_dropout", "batch_size", "seed"}
    assert numbers <= {one.name for one in RANGED}


def test_flags_and_their_former_names_are_all_different() -> None:
    flags = [flag_of(one) for one in options_of(TrainOptions)]
    former = [f"--{name}" for name in former_flags(TrainOptions)]
    assert len({*flags, *former}) == len(flags) + len(former)
    assert former_flags(TrainOptions)["rate"] == "learning-rate"


def test_a_preset_stands_for_what_was_not_chosen() -> None:
    asked = TrainOptions(preset="gpu", overrides=PlanOverrides(hidden=100, epochs=2.0))
    made = with_preset(asked, {"preset", "hidden", "epochs"}).overrides
    planned = {name: value for name, value in PRESETS["gpu"].items() if name not in ("hidden", "minutes")}
    assert made == replace(asked.overrides, **planned)
    assert with_preset(asked, {"preset", "epochs", "minutes", "hidden"}).overrides.minutes is None
    assert with_preset(TrainOptions(preset="gpu"), {"preset"}).overrides.minutes == PRESETS["gpu"]["minutes"]
    with pytest.raises(ParameterError, match="--preset is 'tpu'; choose one of gpu"):
        with_preset(TrainOptions(preset="tpu"), {"preset"})
