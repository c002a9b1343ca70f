"""What texts must match, as the names and values of a call in Python ask for it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from model.constraints.constraint import Constraint, Kind
from model.errors import ParameterError


def constraint_of(given: Mapping[str, Any]) -> Constraint | None:
    """The constraint that some options of `LanguageModel.generate` ask for; None where all are None or False.

    An empty list of bad words forbids nothing; any other empty value is one like others.

    Raises ParameterError where two ask, or a value has the wrong type.
    """
    asked = {name: value for name, value in given.items() if value is not None and value is not False}
    if "bad_words" in asked and isinstance(asked["bad_words"], list | tuple) and not asked["bad_words"]:
        del asked["bad_words"]
    if not asked:
        return None
    first, *others = asked
    if others:
        raise ParameterError(others[0], f"{others[0]} and {first} both constrain the text; give only one of them.")
    return _READ[first](first, asked[first])


def _text(kind: Kind) -> Callable[[str, Any], Constraint]:
    def read(name: str, value: Any) -> Constraint:
        if not isinstance(value, str):
            raise ParameterError(name, f"{name} is not a string; give one.")
        return Constraint(kind, value, name)

    return read


def _list(kind: Kind) -> Callable[[str, Any], Constraint]:
    def read(name: str, value: Any) -> Constraint:
        if isinstance(value, str | Mapping):
            raise ParameterError(name, f"{name} is not a list; give one, even for one value.")
        try:
            return Constraint.of_value(
                kind, [one.item() if isinstance(one, np.generic) else one for one in value], name
            )
        except TypeError:
            raise ParameterError(name, f"{name} is not a list of plain values; give strings or ids.") from None

    return read


def _schema(name: str, value: Any) -> Constraint:
    if isinstance(value, str):
        return Constraint("json_schema", value, name)
    if not isinstance(value, dict):
        raise ParameterError(name, f"{name} is neither a dictionary nor the text of one; give a JSON schema.")
    try:
        return Constraint.of_value("json_schema", value, name)
    except TypeError as error:
        raise ParameterError(name, f"{name} is not JSON ({error}); give plain JSON values.") from None


def _object(name: str, value: Any) -> Constraint:
    if value is not True:
        raise ParameterError(name, f"{name} is neither True nor False.")
    return Constraint("json_object", "", name)


_READ: dict[str, Callable[[str, Any], Constraint]] = {
    "regex": _text("regex"),
    "choice": _list("choice"),
    "json_schema": _schema,
    "json_object": _object,
    "grammar": _text("grammar"),
    "allowed_token_ids": _list("allowed_ids"),
    "bad_words": _list("bad_words"),
}
