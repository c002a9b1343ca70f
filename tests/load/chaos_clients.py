"""Chaos: clients who fall silent, freeze, leave, and read or send a byte a second."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

from tests.load.bystanders import COUNT, Bystanders, Row
from tests.load.process import Running, unroll_serve
from tests.load.wire import HungUpError, Wire, request

TEXTS = 8  # of the client in question: more than bystanders have
SECONDS = 2.0
TIMED = (
    *("--send-seconds", str(SECONDS), "--header-seconds", str(SECONDS), "--body-seconds", str(SECONDS)),
    *("--stream-interval", "0"),
)
KEEP_ALIVE = 15 + SECONDS + 5  # until the kernel asks a quiet peer, and how long it waits for the answer
MOST = 60.0
SMALL = 4_096  # bytes of a receive buffer

ASKED = {"prompt": "a", "max_tokens": 100_000, "n": TEXTS}
STREAM, WHOLE = (request("/v1/completions", {**ASKED, "stream": stream}) for stream in (True, False))
READER = """
import socket, sys, time
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
client.sendall(bytes.fromhex(sys.argv[2]))
while client.recv(65536):
    pass
"""


async def until(server: Running, condition: Callable[[int], bool]) -> float:
    """Seconds until the number of texts is as wanted; at most 60."""
    began = time.perf_counter()
    while not condition(await asyncio.to_thread(lambda: server.texts)) and time.perf_counter() - began < MOST:
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


async def left_alone(
    name: str, server: Running, begin: Callable[[], Awaitable[None]], go: Callable[[], None], most: float
) -> Row:
    """A client whose texts are being written goes away in some manner; how long the server goes on with them."""
    async with Bystanders(server) as beside:
        await begin()
        await until(server, lambda texts: texts >= TEXTS)
        await asyncio.sleep(0.2)
        go()
        seconds = await until(server, lambda texts: texts <= COUNT)
    holds = seconds < most and beside.unharmed
    return Row(name, "(it is gone)", beside.words, f"frees its {TEXTS} slots after {seconds:.2f} s", holds)


async def asking(wire: Wire, data: bytes) -> None:
    """Send, and read nothing; what arrives lies in the client's buffers."""
    wire.writer.write(data)
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]


async def half_open(data: bytes, how: str, most: float) -> Row:
    """A client whose machine loses its power: no FIN, no RST, and nothing is acknowledged any more."""
    with unroll_serve(*TIMED) as server:
        wire = await Wire.open(server.port)
        name = (
            f"half-open connection, {how}: the peer acknowledges nothing any more; {SECONDS:g} s to take what is sent"
        )
        row = await left_alone(name, server, partial(asking, wire, data), wire.fall_silent, most)
        wire.reset()
        return row


async def frozen() -> Row:
    """A client that is stopped in the middle of a stream: its kernel acknowledges, and nobody reads."""
    with unroll_serve(*TIMED) as server:
        command = [sys.executable, "-c", READER, str(server.port), STREAM.hex()]
        processes = []

        async def begin() -> None:
            processes.append(subprocess.Popen(command))

        name = f"client frozen by SIGSTOP in a stream; {SECONDS:g} s to take what is sent"
        row = await left_alone(name, server, begin, lambda: processes[0].send_signal(signal.SIGSTOP), MOST)
        processes[0].kill()
        processes[0].wait()
        return row


async def gone(how: str) -> Row:
    """A client that ends, or is killed."""
    with unroll_serve(*TIMED) as server:
        wire = await Wire.open(server.port)
        go = wire.close if how == "FIN" else wire.reset
        return await left_alone(f"client gone by {how}, not streamed", server, partial(asking, wire, WHOLE), go, 1)


async def slow_reader() -> Row:
    """A client that takes a byte a second of a stream."""
    with unroll_serve(*TIMED) as server, socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        own.connect(("127.0.0.1", server.port))
        own.sendall(STREAM)
        await until(server, lambda texts: texts >= TEXTS)
        memory, most, received = server.resident_megabytes, 0.0, 0
        async with Bystanders(server) as beside:
            began = time.perf_counter()
            while await asyncio.to_thread(lambda: server.texts) > COUNT and time.perf_counter() - began < MOST:
                received += len(own.recv(1))
                most = max(most, server.resident_megabytes - memory)
                await asyncio.sleep(1)
            seconds = time.perf_counter() - began
    after = f"frees its {TEXTS} slots after {seconds:.1f} s, having held {most:.1f} MB for it at most"
    seen = f"cut off after {received} bytes"
    holds = seconds < MOST and most < 10 and beside.unharmed
    return Row(f"1 B/s reader of a stream of {TEXTS} texts", seen, beside.words, after, holds)


async def slow_sender(part: str) -> Row:
    """A client that sends a byte a second of its headers or of its body."""
    data = request("/v1/completions", {"prompt": "a" * 100})
    head, blank, body = data.partition(b"\r\n\r\n")
    first, slow = (b"", head) if part == "headers" else (head + blank, body)
    with unroll_serve(*TIMED) as server:
        async with Bystanders(server) as beside:
            wire = await Wire.open(server.port)
            wire.writer.write(first)
            began = time.perf_counter()
            answering = asyncio.create_task(wire.answer())
            for byte in slow:
                wire.writer.write(bytes([byte]))
                await asyncio.wait([answering], timeout=1)
                if answering.done():
                    break
            seconds = time.perf_counter() - began
            seen, status = await said(answering)
            wire.close()
        opened = server.descriptors
    holds = status == 408 and seconds < 3 * SECONDS and beside.unharmed
    after = f"answers after {seconds:.1f} s and closes; {opened} descriptors are open at the end"
    return Row(f"1 B/s sender of {part}; {SECONDS:g} s for them", seen, beside.words, after, holds)


async def said(answering: "asyncio.Task[object]") -> tuple[str, int]:
    """What an answer said, and its status."""
    try:
        answer: object = await answering
    except (HungUpError, ConnectionError) as error:
        return f"{error}", 0
    return f"{answer.status} {answer.code}", answer.status  # type: ignore[attr-defined]


def named(name: str, scenario: Callable[[], Awaitable[Row]]) -> Callable[[], Awaitable[Row]]:
    """A scenario that --only finds."""
    scenario.__name__ = name
    return scenario


SCENARIOS: list[Callable[[], Awaitable[Row]]] = [
    named("half_open_streamed", partial(half_open, STREAM, "streamed", 3 * SECONDS)),
    named("half_open_whole", partial(half_open, WHOLE, "not streamed", KEEP_ALIVE + 3)),
    frozen,
    named("gone_fin", partial(gone, "FIN")),
    named("gone_rst", partial(gone, "RST")),
    slow_reader,
    named("slow_sender_headers", partial(slow_sender, "headers")),
    named("slow_sender_body", partial(slow_sender, "body")),
]
