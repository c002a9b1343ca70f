"""Names of models: those of the settings, those of folders, and what a request may write in their place."""

import re
from pathlib import Path
from typing import NamedTuple

from model.checkpoint import named_checkpoint
from service.errors import SettingsError
from service.settings import BUNDLED_NAME, Settings, flag_of, listed, name_of_folder

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""A name of a folder of models, and one that is given to a folder; no path and no white space."""
LONGEST = 100  # characters of a name
DIGEST = re.compile(r"[0-9a-f]{8,64}")
"""What may stand behind the @ of a version: the digest, or its first digits."""

UNNAMED = "its folder's name is none for a model; rename it to letters, digits, dots, dashes and underscores"
PAIRS = "write NAME=FOLDER, the name of letters, digits, dots, dashes and underscores"


class Place(NamedTuple):
    """Where a model is: its name, and the folder of its checkpoint or of its run."""

    name: str
    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The folder of the checkpoint."""
        return named_checkpoint(self.folder)


def shown(folder: str) -> str:
    """The name of a folder as it can be printed: its own where a model may have it, and else none that a model has."""
    if NAME.fullmatch(folder):
        return folder
    plain = folder.encode("ascii", "backslashreplace").decode()
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"


def named_places(settings: Settings) -> list[Place]:
    """The models that the settings name, without those of a folder of models; the bundled one where they name none.

    Raises SettingsError on a name that is none, or that two of them have, and on a folder of models that is not there.
    """
    if settings.models is not None and not settings.models.is_dir():
        raise SettingsError(f"There is no folder {settings.models}; make it, or name another with {flag_of('models')}.")
    given = [*([str(settings.checkpoint)] if settings.checkpoint is not None else []), *settings.others]
    if not given and settings.models is None:
        return [Place(settings.model_name, named_checkpoint(None))]
    if settings.name is not None and len(given) > 1:
        raise SettingsError("--name is for one model; name several as NAME=FOLDER.")
    places = [_place(one, settings.name) for one in given]
    for at, place in enumerate(places):
        if any(place.name == other.name for other in places[:at]):
            raise SettingsError(f"Two models are called {place.name!r}; name one of them otherwise: {PAIRS}.")
    return places


def _place(given: str, name: str | None) -> Place:
    before, equals, folder = given.partition("=")
    if equals and not Path(given).exists():
        if not NAME.fullmatch(before) or not folder:
            raise SettingsError(f"{given!r} names no model; {PAIRS}.")
        return Place(name or before, _folder(folder))
    return Place(name or name_of_folder(Path(given)), _folder(given))


def _folder(given: str) -> Path:
    """The folder, or the bundled model where its name is given and no such folder is there."""
    return named_checkpoint(None) if given == BUNDLED_NAME and not Path(given).exists() else Path(given)


def aliases_of(settings: Settings) -> dict[str, str]:
    """Other names of models, and the model of each, also where it was given by another of its other names.

    Raises SettingsError on what is no pair of names, and on names that stand for each other alone.
    """
    aliases: dict[str, str] = {}
    for pair in listed(settings.alias or ""):
        other, equals, name = (part.strip() for part in pair.partition("="))
        if not equals or not other or not name or other == name or len(other) > 200:
            raise SettingsError(
                f"{flag_of('alias')} has {pair!r}; write pairs such as gpt-3.5-turbo-instruct={BUNDLED_NAME}."
            )
        aliases[other] = name
    return {other: _end_of(other, aliases) for other in aliases}


def _end_of(other: str, aliases: dict[str, str]) -> str:
    name, passed = aliases[other], {other}
    while name in aliases:
        if name in passed:
            raise SettingsError(f"{flag_of('alias')} has {other!r} stand for itself; give it the name of a model.")
        passed.add(name)
        name = aliases[name]
    return name


def without_digest(asked: str) -> tuple[str, str | None]:
    """A name that a request gave, and the digest that pins its version, if any."""
    name, at, digest = asked.rpartition("@")
    return (name, digest) if name and at and DIGEST.fullmatch(digest) else (asked, None)
