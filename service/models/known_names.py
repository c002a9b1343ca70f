"""Names of models that the settings and the file of keys give: whether a model has them, or may come to have them."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from service.errors import SettingsError
from service.models.folder_watch import signature_of
from service.models.naming import NAME, Place
from service.settings import Settings, flag_of, listed

logger = logging.getLogger(__name__)


def check_names(settings: Settings, aliases: Mapping[str, str], served: Collection[str], offer: str) -> None:
    """Check what the settings say of names at the start.

    aliases: other names, and the model of each. served: names of models. offer: which models there are, in words.
    Raises SettingsError on a name that no model has or can come to have, and on another name that a model has already;
    a name that a folder of models may still come to have is told in the log.
    """
    given = [("alias", name) for name in aliases.values()]
    given += [("pinned_models", name) for name in listed(settings.pinned_models or "")]
    given += [("default_model", settings.default_model)] if settings.default_model is not None else []
    for setting, name in given:
        if not is_known(settings.models, aliases, served, name):
            if settings.models is None:
                raise SettingsError(f"There is no model {name!r}, which {flag_of(setting)} names; {offer}.")
            logger.warning("%s names %r, and there is no such model yet; %s.", flag_of(setting), name, offer)
    for other in aliases:
        if other in served:
            raise SettingsError(f"{flag_of('alias')} gives the name {other!r}, which a model has already.")


def is_known(models: Path | None, aliases: Mapping[str, str], served: Collection[str], name: str) -> bool:
    """Whether a model has a name, or a checkpoint in the folder of models has it: of that the log tells anyhow."""
    name = aliases.get(name, name)
    if name in served or models is None or not NAME.fullmatch(name):
        return name in served
    return signature_of(Place(name, models / name)) is not None
