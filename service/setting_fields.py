"""How a setting is said: once for flag, environment variable and help."""

import re
from typing import Any

from model.command_line.options import number, option

# Groups of `unroll serve --help`.
MODEL, ACCESS, LIMITS, CONNECTIONS, LOGS = "Model", "Access", "Limits", "Connections", "Logs"

# Kubernetes sets variables of these names in every container, if a service is called `unroll`.
KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*")
PORT = 8000


def setting(
    default: Any,
    help_: str,
    panel: str | None = None,
    *,
    least: float | None = None,
    most: float | None = None,
    **about: Any,
) -> Any:
    """A field of Settings, said once for flag, environment variable and help; see `model.command_line.options`.

    least, most: range of a number; the upper ends lie far above what one machine serves, and only catch mistakes.
    """
    allowed = None if least is None or most is None else number(least, most)
    return option(default, help_, panel, range=allowed, **about)


def port_number(text: str) -> int:
    """The port as a number; the default for a URL, which Kubernetes puts there if a service is called `unroll`."""
    return PORT if KUBERNETES_PORT.fullmatch(str(text)) else int(text)
