"""Readers of events that go on by themselves: through a proxy that cuts them off, they get the text once and whole."""

import asyncio
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import Served

pytestmark = pytest.mark.clients

EVENTS = 50  # that the proxy lets through of each answer
BODY = {"prompt": "ROMEO:\n", "max_tokens": 400, "seed": 4, "stream": True, "stream_interval": 0}
DROP = b"\n\n"


class CuttingProxy:
    """A proxy that ends each connection after some events of its answer."""

    def __init__(self, target: str) -> None:
        self._target = httpx.URL(target)
        self._ready = threading.Event()
        self.connections = 0
        self.url = ""
        self._thread = threading.Thread(target=asyncio.run, args=(self._main(),), daemon=True)
        self._thread.start()
        self._ready.wait(10)

    async def _main(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            self._ready.set()
            await self._stopped.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection(self._target.host, self._target.port)
        sending = asyncio.create_task(self._forward(reader, back))
        events = 0
        try:
            while events < EVENTS and (piece := await there.read(400)):
                writer.write(piece)
                await writer.drain()
                events += piece.count(DROP)
        finally:
            sending.cancel()
            for one in (back, writer):
                one.close()
                with suppress(ConnectionError):  # a reader that has what it wants goes
                    await one.wait_closed()

    @staticmethod
    async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()


@pytest.fixture
def proxy(served: Served) -> Iterator[CuttingProxy]:
    one = CuttingProxy(served.url)
    yield one
    one.close()


def test_httpx_sse_with_its_retry_loop(served: Served, proxy: CuttingProxy) -> None:
    """The loop of its documentation: connect again with the last id, until the end is there."""
    httpx_sse = pytest.importorskip("httpx_sse")
    text, last, done = "", "", False
    with httpx.Client(timeout=30) as client:
        while not done:
            headers = {"Last-Event-ID": last} if last else {}
            try:
                with httpx_sse.connect_sse(
                    client, "POST", f"{proxy.url}/v1/completions", json=BODY, headers=headers
                ) as source:
                    source.response.raise_for_status()
                    for event in source.iter_sse():
                        last = event.id
                        if event.data == "[DONE]":
                            done = True
                        else:
                            text += json.loads(event.data)["choices"][0]["text"]
            except httpx.RemoteProtocolError:
                continue
    assert text == served.write("ROMEO:\n", max_tokens=400, seed=4)
    assert proxy.connections >= 400 // (EVENTS + 5)


PROGRAM = """
import { fetchEventSource } from "@microsoft/fetch-event-source";
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const control = new AbortController();
let text = "", opened = 0;
class Retry extends Error {}
await fetchEventSource(process.argv[2], {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: process.argv[3],
  signal: control.signal,
  openWhenHidden: true,
  onopen: async (response) => {
    opened++;
    if (!response.ok) { control.abort(); throw new Error(await response.text()); }
  },
  onmessage: (event) => {
    if (event.data === "[DONE]") { console.log(JSON.stringify({ text, opened })); control.abort(); }
    else if (event.data) text += JSON.parse(event.data).choices[0].text;
  },
  onclose: () => { throw new Retry(); },
  onerror: () => 10,
});
"""


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the npm package; without npm, or the network, the test is skipped."""
    folder = tmp_path_factory.mktemp("node")
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "@microsoft/fetch-event-source@2.0.1"]
    done = subprocess.run(install, cwd=folder, capture_output=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip("npm cannot install the package here")
    (folder / "read.mjs").write_text(PROGRAM)
    return folder


def test_microsoft_fetch_event_source(served: Served, proxy: CuttingProxy, node_folder: Path) -> None:
    command = ["node", "read.mjs", f"{proxy.url}/v1/completions", json.dumps(BODY)]
    done = subprocess.run(command, cwd=node_folder, capture_output=True, timeout=60, check=True, text=True)
    found = json.loads(done.stdout)
    assert found["text"] == served.write("ROMEO:\n", max_tokens=400, seed=4)
    assert found["opened"] >= 400 // (EVENTS + 5)
