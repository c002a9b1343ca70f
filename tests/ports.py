"""A port for processes that will meet there a while later."""

import random
import socket

MEETING = range(20_000, 32_000)  # below those that Linux gives to connections, of which one may come meanwhile


def free_port() -> int:
    """A port of this machine where nobody listens, and which no connection takes by chance."""
    for port in random.SystemRandom().sample(MEETING, 100):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")
