"""Clear errors for a process that has too little address space or too few threads to start."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import SettingsError

LEAST = 256 << 20  # bytes that libraries, threads and a small model map; numpy alone ends the process with half of it
THREADLESS = "can't start new thread"  # Python's message, which has no exception class of its own


def check_address_space() -> None:
    """Raise SettingsError if not even the libraries can be loaded; call it before they are."""
    own = resource.getrlimit(resource.RLIMIT_AS)[0]
    if own != resource.RLIM_INFINITY and own < LEAST:
        raise SettingsError(
            f"The process may map {own >> 20:,} MB (ulimit -v), and a server takes at least {LEAST >> 20:,} MB; "
            "raise the limit, or set none."
        )


def too_little() -> SettingsError:
    """The error of a process that has too little memory or threads to start or continue."""
    own, threads = resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_NPROC)[0]
    space, most = (
        "unlimited" if number == resource.RLIM_INFINITY else f"{number // unit:,}"
        for number, unit in ((own, 1024), (threads, 1))
    )
    return SettingsError(
        f"The server has not enough memory or threads to run: ulimit -v is {space}, ulimit -u is {most}; raise them, "
        "or give its machine or container more memory."
    )


@contextmanager
def enough_to_run() -> Iterator[None]:
    """Raise SettingsError if the block fails for lack of memory or threads."""
    try:
        yield
    except MemoryError as error:
        raise too_little() from error
    except RuntimeError as error:
        if THREADLESS not in str(error):
            raise
        raise too_little() from error
