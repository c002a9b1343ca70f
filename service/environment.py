"""Environment variables of the server: which are settings, and which are misspelt ones."""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import fields

from service.errors import SettingsError
from service.settings import ENVIRONMENT, Settings, variable_of

# Kubernetes sets variables of these names in every container, if a service is called `unroll`.
KUBERNETES = re.compile(ENVIRONMENT + r"(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP|SCTP)\w*)")


def check_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Raise SettingsError on a variable that looks like a setting but is not one; names the one probably meant."""
    known = [variable_of(one.name) for one in fields(Settings)]
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT) and name not in known and not KUBERNETES.fullmatch(name):
            [nearest] = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise SettingsError(
                f"The environment has {name}, which is no setting; perhaps {nearest} is meant, or unset it. "
                "`unroll serve --help` lists them all."
            )
