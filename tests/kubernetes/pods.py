"""The kubelet's part on this machine: containers as processes, volumes as folders, probes, and the end of a pod."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.kubernetes.chart import ROOT, Object, container_of, of_kind, pod_of, variables

# What the image has: its entry point, and Python on the path.
ENTRYPOINT = [sys.executable, "-m", "unroll"]
PROGRAMS = {"python": sys.executable}


class Pod:
    """One pod of the rendered objects. Its volumes are folders, to which the paths of its mounts are turned.

    given: the content of volumes that are not among the objects: of a Secret by its name, each key's text; of any other
    volume by the volume's name, a folder. images: folders of other images by their paths in them.
    """

    def __init__(
        self, objects: list[Object], work: Path, given: Mapping[str, Any], images: Mapping[str, Path] | None = None
    ) -> None:
        self._objects, self._work, self._given = objects, work, given
        self.images = dict(images or {})
        self.spec = pod_of(objects)["spec"]
        self.container = container_of(objects)
        self._volumes: dict[str, Path] = {one["name"]: self._folder(one) for one in self.spec.get("volumes", ())}
        self._process: subprocess.Popen[bytes] | None = None

    def _folder(self, volume: Object) -> Path:
        """The folder of a volume; files of Secrets and ConfigMaps are links, as the kubelet makes them."""
        folder = self._work / str(volume["name"])
        source = volume.get("secret") or volume.get("configMap")
        if source is None and "emptyDir" not in volume:
            return Path(self._given[volume["name"]])
        folder.mkdir()
        if source is None:
            return folder
        (folder / "..1").mkdir()
        (folder / "..data").symlink_to("..1")
        texts = self._texts(source.get("secretName") or source["name"])
        chosen = source.get("items") or [{"key": key, "path": key} for key in texts]
        for key, name in ((one["key"], one["path"]) for one in chosen):
            (folder / "..data" / name).write_text(texts[key], "utf-8")
            (folder / name).symlink_to(f"..data/{name}")
        return folder

    def _texts(self, name: str) -> dict[str, str]:
        for one in of_kind(self._objects, "Secret") + of_kind(self._objects, "ConfigMap"):
            if one["metadata"]["name"] == name:
                texts: dict[str, str] = one.get("stringData") or one["data"]
                return texts
        return dict(self._given[name])

    def here(self, container: Object, text: str) -> str:
        """A path in the container as one of this machine; any other text as it is."""
        mounts = {one["mountPath"]: self._volumes[one["name"]] for one in container.get("volumeMounts", ())}
        for path, folder in {**mounts, **self.images}.items():
            if text == path or text.startswith(path + "/"):
                return str(folder) + text.removeprefix(path)
        return text

    def environment(self, container: Object) -> dict[str, str]:
        """A container's environment, and what Python needs on this machine."""
        own = {name: self.here(container, value) for name, value in variables(container).items()}
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **own}

    def prepare(self) -> list[subprocess.CompletedProcess[str]]:
        """Run the init containers, each to its end."""
        done = []
        for one in self.spec.get("initContainers", ()):
            program, *words = [self.here(one, word) for word in one["command"]]
            command = [PROGRAMS.get(program, program), *words]
            environment = self.environment(one)
            done.append(
                subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
            )
        return done

    def command(self, *words: str) -> list[str]:
        """The command of the container that serves, or the image's program with other words."""
        return [*ENTRYPOINT, *(words or (self.here(self.container, word) for word in self.container["args"]))]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The image's program with other words in the container's environment, as `kubectl exec` runs it."""
        return subprocess.run(
            self.command(*words), env=self.environment(self.container), capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    def __enter__(self) -> "Pod":
        log = (self._work / "log").open("wb")
        self._process = subprocess.Popen(
            self.command(), env=self.environment(self.container), stdout=log, stderr=log, cwd=self._work
        )
        log.close()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._work, ignore_errors=True)

    @property
    def log(self) -> str:
        """What the container wrote."""
        return (self._work / "log").read_text("utf-8", "replace")

    def port(self, name: str) -> int:
        """A port of the container by its name."""
        return next(int(one["containerPort"]) for one in self.container["ports"] if one["name"] == name)

    def get(
        self, path: str, key: str = "", port: str = "http", body: Any = None, seconds: float = 30
    ) -> tuple[int, str]:
        """Status and text of an answer; 0 where nobody answers."""
        scheme = self.container["readinessProbe"]["httpGet"]["scheme"].lower()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        data = None if body is None else json.dumps(body).encode()
        headers |= {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(f"{scheme}://127.0.0.1:{self.port(port)}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds, context=unverified()) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, OSError):
            return 0, ""

    def probe(self, name: str) -> bool:
        """Whether a probe passes, as the kubelet asks: it takes any status from 200 to 399."""
        asked = self.container[f"{name}Probe"]
        get = asked["httpGet"]
        status, _ = self.get(get["path"], port=get["port"], seconds=asked["timeoutSeconds"])
        return 200 <= status < 400

    def until(self, probe: str, seconds: float) -> float:
        """Seconds until a probe passes; it has to within `seconds`."""
        assert self._process is not None
        started = time.monotonic()
        while not self.probe(probe):
            assert self._process.poll() is None, self.log
            assert time.monotonic() - started < seconds, self.log
            time.sleep(0.05)
        return time.monotonic() - started

    def terminate(self) -> None:
        """SIGTERM, which the kubelet sends after the pause of preStop."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The container's status at its end; it has to end within the pod's own grace, without the pause of preStop."""
        assert self._process is not None
        return self._process.wait(self.spec["terminationGracePeriodSeconds"] - pause(self.container))


def pause(container: Object) -> float:
    """Seconds before SIGTERM."""
    return float(container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0))


def unverified() -> ssl.SSLContext:
    """The kubelet checks no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
