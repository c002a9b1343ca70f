"""Sockets below a connection: descriptor limits, keep-alive probes and kernel buffers."""

import asyncio
import logging
import resource
import socket

logger = logging.getLogger(__name__)

DESCRIPTORS = 64  # for everything but connections: listener, event loop, logs, checkpoint
KERNEL_BUFFER = 131_072  # bytes, which Linux doubles; its default is up to 4 MiB for a client that reads nothing

# Keep-alive probes of the kernel: seconds of silence before the first, seconds between two, and how many may stay
# unanswered. So a vanished peer is noticed after half a minute, and not after the two hours of Linux's default.
QUIET_SECONDS, ASK_SECONDS, ASK_TIMES = 15, 5, 3


def fitting(connections: int, beside: int) -> int:
    """How many of `connections` the process may open besides others; raises its soft limit for them."""
    wanted = connections + beside + DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == unlimited or soft >= wanted:
        return connections
    fit = max(1, soft - (wanted - connections))
    logger.warning(
        "This process may open %d files, which is room for %d connections and not for %d; raise its limit (ulimit -n).",
        soft, fit, connections,
    )  # fmt: skip
    return fit


def watch_peer(transport: asyncio.BaseTransport, send_seconds: float) -> None:
    """Make the kernel notice a peer that has vanished or reads nothing, and bound what it buffers for it."""
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
    options = {
        "TCP_KEEPIDLE": QUIET_SECONDS,
        "TCP_KEEPINTVL": ASK_SECONDS,
        "TCP_KEEPCNT": ASK_TIMES,
        # Also ends connections whose peer acknowledges nothing more, which asyncio cannot see (RFC 5482).
        "TCP_USER_TIMEOUT": int(send_seconds * 1000),
    }
    for name, value in options.items():
        if hasattr(socket, name):  # systems differ
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
