"""What the verbs of training have in common: a command made from a dataclass of options, and what must be installed."""

import inspect
from collections.abc import Callable
from dataclasses import Field, fields, is_dataclass
from importlib.util import find_spec
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from model.errors import UnrollError
from training.planning.option import about, options_of
from training.planning.request import Request

Options = TypeVar("Options")


def command_of(kind: type[Options], verb: Callable[[typer.Context, Options], None]) -> Callable[..., None]:
    """The verb with a parameter for each option of a dataclass, for typer to read; it is called with the dataclass."""
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *_parameters(kind)]

    def called(context: typer.Context, **given: Any) -> None:
        verb(context, make(kind, given))

    called.__doc__ = verb.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def make(kind: type[Options], given: dict[str, Any]) -> Options:
    """The dataclass with the values of a command line."""
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if is_dataclass(inner := types[one.name]):
            values[one.name] = make(inner, given)  # type: ignore[arg-type]
        elif one.name in given:
            values[one.name] = tuple(given[one.name] or ()) if about(one).argument else given[one.name]
    return kind(**values)


def typer_option(one: Field[Any]) -> Any:
    """An option as typer takes it; an option of another verb that means the same may take it, too."""
    said = about(one)
    shown: dict[str, Any] = {"help": said.help, "metavar": said.metavar, "rich_help_panel": said.panel}
    if said.argument:
        return typer.Argument(**shown)
    if said.shown is not None:
        shown["show_default"] = said.shown
    return typer.Option(*([said.flag] if said.flag else []), **shown)


def option_of_training(name: str) -> Any:
    """An option of `unroll train` by the name of its field, for a verb where it means the same."""
    return typer_option(next(one for one in options_of(Request) if one.name == name))


def _parameters(kind: type) -> list[inspect.Parameter]:
    types = get_type_hints(kind)
    made = []
    for one in fields(kind):
        if is_dataclass(inner := types[one.name]):
            made += _parameters(inner)  # type: ignore[arg-type]
        elif "option" in one.metadata:
            type_, default = (list[str] | None, None) if about(one).argument else (types[one.name], one.default)
            annotation = Annotated[type_, typer_option(one)]  # type: ignore[valid-type]
            made.append(
                inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            )
    return made


def require(*packages: str) -> None:
    """Raise UnrollError where what training needs is not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise UnrollError(
            f"Training needs {' and '.join(missing)}, which serving does not; install it with `make train` in Unroll's "
            "folder, or with pip as the extra `train`; in a container, use the image of the Dockerfile's "
            "target `train`."
        )
