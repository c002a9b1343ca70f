"""Four servers, each in a network namespace of its own, and before them the nginx of docs/deployment.md."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks.server_process import REPOSITORY, START_SECONDS

SERVERS = 4
PORT = 8000
FIRST_PORT = 18_100  # of servers that share this machine's network, and of nginx
KEY = "first-key-of-enough-characters"
SECRET = "a secret that all servers share, of enough characters"
DOCUMENT = REPOSITORY / "docs" / "deployment.md"
MAIN = """worker_processes 1;
error_log error.log warn;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{documented}
}}
"""

Said = tuple[int, Any, str | None]
"""Status, body and Retry-After of an answer."""


@dataclass(frozen=True)
class Place:
    """Where a server listens. namespace: its network's, or None where all share one."""

    host: str
    port: int
    namespace: str | None = None

    @property
    def address(self) -> str:
        """As nginx writes it."""
        return f"{self.host}:{self.port}"


@contextmanager
def places() -> Iterator[list[Place]]:
    """Namespaces joined to this one by a pair of interfaces each; four ports here where they are not permitted."""
    names = [f"unroll-{at}" for at in range(SERVERS)]
    _remove(names)  # those of a proof that was killed
    try:
        yield _namespaces(names) or [Place("127.0.0.1", FIRST_PORT + at) for at in range(SERVERS)]
    finally:
        _remove(names)


def _namespaces(names: Sequence[str]) -> list[Place]:
    """A place in a new namespace for each name; none where that is not permitted."""
    try:
        for at, name in enumerate(names):
            outside = f"unroll-v{at}"
            _ip("netns", "add", name)
            _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("address", "add", f"10.80.{at}.1/24", "dev", outside)
            _ip("link", "set", outside, "up")
            _ip("-n", name, "address", "add", f"10.80.{at}.2/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "eth0", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        Console(stderr=True).print(f"No network namespaces ({error}): the servers share this one, on four ports.")
        return []
    return [Place(f"10.80.{at}.2", PORT, name) for at, name in enumerate(names)]


def _remove(names: Sequence[str]) -> None:
    for name in names:
        with suppress(OSError):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass
class Replica:
    """A server at a place. flags: what it is started with the next time."""

    place: Place
    flags: list[str]
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def start(self) -> None:
        """Start it. Returns at once."""
        inside = [] if self.place.namespace is None else ["ip", "netns", "exec", self.place.namespace]
        where = ["--host", self.place.host, "--port", str(self.place.port)]
        self.process = subprocess.Popen(
            [*inside, sys.executable, "-m", "unroll", "serve", *where, *self.flags],
            cwd=REPOSITORY,
            env=os.environ | {"UNROLL_STATE_SECRET": SECRET},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self) -> None:
        """Wait until it is ready. Raises RuntimeError where it ends before, or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server at {self.place.address} did not start")
            time.sleep(0.05)

    def ready(self) -> bool:
        """Whether it says that it is."""
        connection = http.client.HTTPConnection(self.place.host, self.place.port, timeout=5)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def end(self, number: signal.Signals) -> None:
        """Send a signal that ends it, and wait for that."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)

    def hang_up(self) -> None:
        """Let it read its keys again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)


class Balancer:
    """The nginx of the documentation, before some of the places."""

    def __init__(self, folder: Path, listen: int) -> None:
        self.port = listen
        self._folder = folder
        (found,) = re.findall(r"```nginx\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S)
        self._documented: str = found
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, among: Sequence[Place]) -> None:
        """Write the configuration: the documented one, with the addresses of this proof."""
        rule = re.search(r"( *)server [\d.]+:\d+( .*;)\n", self._documented)
        assert rule is not None
        lines = "".join(f"{rule[1]}server {place.address}{rule[2]}\n" for place in among)
        turned = re.sub(r"( *server [\d.]+:\d+ .*;\n)+", lines, self._documented, count=1)
        turned = re.sub(r"listen [\d.:]+;", f"listen 127.0.0.1:{self.port};", turned)
        (self._folder / "nginx.conf").write_text(MAIN.format(documented=turned), "utf-8")

    def start(self) -> None:
        """Start it. Ends the program with a sentence where nginx is not installed."""
        command = ["nginx", "-p", str(self._folder), "-c", "nginx.conf", "-e", "error.log", "-g", "daemon off;"]
        try:
            self._process = subprocess.Popen(command, stderr=subprocess.PIPE)
        except FileNotFoundError:
            sys.exit("nginx is not installed; on Debian: apt-get install nginx-light")
        deadline = time.monotonic() + 10
        while not (self._folder / "nginx.pid").exists() or not (self._folder / "nginx.pid").read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx did not start: {self._process.communicate()[1].decode()}")
            time.sleep(0.02)

    def among(self, some: Sequence[Place]) -> None:
        """Send new requests to these places alone, by a reload."""
        assert self._process is not None
        self.write(some)
        self._process.send_signal(signal.SIGHUP)
        time.sleep(0.5)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=20)


@dataclass(frozen=True)
class ReplicaSet:
    """Servers that are ready, and the balancer before them."""

    replicas: list[Replica]
    balancer: Balancer


@contextmanager
def replica_set(flags: list[str]) -> Iterator[ReplicaSet]:
    """Four servers with the same flags and nginx before them, to the end of a `with` block."""
    with places() as found, tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        replicas = [Replica(place, flags) for place in found]
        balancer = Balancer(Path(folder), FIRST_PORT + SERVERS)
        try:
            for replica in replicas:
                replica.start()
            for replica in replicas:
                replica.wait()
            balancer.write(found)
            balancer.start()
            yield ReplicaSet(replicas, balancer)
        finally:
            balancer.stop()
            for replica in replicas:
                if replica.process is not None:
                    replica.process.kill()
                    replica.process.wait()


def ask(port: int, path: str, body: dict[str, Any] | None, key: str, host: str = "127.0.0.1") -> Said:
    """Status, body and Retry-After of one answer."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    return answer.status, json.loads(said), answer.headers.get("Retry-After")


def at_server(replica: Replica, path: str, body: dict[str, Any] | None = None, key: str = KEY) -> Said:
    """The same of one server, past the balancer."""
    return ask(replica.place.port, path, body, key, replica.place.host)
