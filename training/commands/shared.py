"""What the verbs of training share: options of `unroll train` for another verb, and what must be installed."""

from importlib.util import find_spec
from typing import Any

from model.commands.from_options import typer_option
from model.errors import UnrollError
from model.options import options_of
from training.planning.train_options import TrainOptions


def option_of_training(name: str) -> Any:
    """An option of `unroll train` by the name of its field, for a verb where it means the same."""
    return typer_option(next(one for one in options_of(TrainOptions) if one.name == name))


def require(*packages: str) -> None:
    """Raise UnrollError where what training needs is not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise UnrollError(
            f"Training needs {' and '.join(missing)}, which serving does not; install it with `make train` in Unroll's "
            "folder, or with pip as the extra `train`; in a container, use the image of the Dockerfile's "
            "target `train`."
        )
