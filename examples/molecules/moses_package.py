"""The package `molsets`: MOSES's molecules and its measures, made to load beside today's pandas and rdkit."""

import importlib
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from examples.running import RecipeError

TRAIN, TEST = "train", "test"
INSTALLATION = "pip install -e '.[examples]' && pip install --no-deps molsets==0.3.1 fcd_torch==1.0.7"


class MissingPackage(RecipeError):
    """A package of the recipe is not installed; the text says how to get it."""


def moses(name: str = "moses") -> Any:
    """A module of the package. Raises MissingPackage where it, or what it stands on, is not installed."""
    try:
        importlib.import_module("rdkit")
        with warnings.catch_warnings(), _mended(importlib.import_module("pandas")):
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingPackage(f"The recipe needs {error.name}; install it with `{INSTALLATION}`.") from None


def molecules(part: str) -> list[str]:
    """The SMILES of the train or the test part."""
    return [str(one) for one in moses().get_dataset(part)]


def statistics(part: str) -> dict[str, Any]:
    """What MOSES measured of a part beforehand, by the measure's name."""
    found: dict[str, Any] = moses("moses.dataset").get_statistics(part)
    return found


@contextmanager
def _mended(pandas: Any) -> Iterator[None]:
    """For as long as it is loaded, give molsets 0.3.1 what it was written against and what has gone since.

    `rdkit.six` and `DataFrame.append` are used there for one call each. `matplotlib` is for plots that no measure
    needs: where it is not installed, empty modules stand for it.
    """
    six, plots, pyplot = (types.ModuleType(name) for name in ("rdkit.six", "matplotlib", "matplotlib.pyplot"))
    vars(six)["iteritems"] = lambda table: iter(table.items())
    vars(plots)["pyplot"] = pyplot
    stand_ins = {six.__name__: six}
    if "matplotlib" not in sys.modules and find_spec("matplotlib") is None:
        stand_ins |= {plots.__name__: plots, pyplot.__name__: pyplot}
    appends = hasattr(pandas.DataFrame, "append")
    sys.modules.update(stand_ins)
    if not appends:
        pandas.DataFrame.append = lambda one, other, sort: pandas.concat([one, other], sort=sort)
    try:
        yield
    finally:
        for name in stand_ins:
            sys.modules.pop(name)
        if not appends:
            del pandas.DataFrame.append
