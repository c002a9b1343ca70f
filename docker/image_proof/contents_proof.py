"""Proves what both images promise of their configuration and of the files in them."""

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from engine import BUILD_LABELS, Image
from promises import Promises, largest, megabytes, packages

USER = "10001:10001"
NEVER = {"pip", "huggingface_hub", "hf_xet", "onnxruntime", "tests"}
PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"  # names what is compiled
PART = "org.opencontainers.image."


def prove_configuration(promise: Promises, image: Image, expected: dict[str, Any]) -> None:
    """What the image tells an engine; expected: fields of its configuration beside those that both images share."""
    shared = {"User": USER, "Entrypoint": ["unroll"], "StopSignal": "SIGTERM"}
    for name, value in {**shared, **expected}.items():
        seen = image.config.get(name)
        promise(f"its configuration says {name}", seen == value, seen)
    labels = {name.removeprefix(PART): value for name, value in image.config["Labels"].items()}
    given = {name.lower(): value for name, value in BUILD_LABELS.items()}
    named = {name: labels.get(name) for name in ("title", "licenses", *given)}
    promise("its labels name it and this build", named == {"title": "Unroll", "licenses": "MIT", **given}, named)
    folders = environment(image)["PATH"].split(":")
    promise("its program is found first", folders[0] == "/opt/unroll/bin", folders[0])
    secret = [name for name in environment(image) if name.startswith("PIP_") or "KEY" in name]
    promise("nothing of the build is in its environment", not secret, secret or "")


def environment(image: Image) -> dict[str, str]:
    """The variables an image sets."""
    return dict(pair.split("=", 1) for pair in image.config["Env"])


def prove_files(promise: Promises, image: Image, root: Path, *, never: set[str], most: float) -> None:
    """What lies in the image; never: packages that must not, most: megabytes of program and dependencies."""
    folder = packages(root)
    size = megabytes(root / "opt/unroll")
    promise(f"dependencies and code take at most {most:.0f} MB", size <= most, f"{size:.1f} MB")
    promise.note("the largest", f"{largest(folder, 12)} MB")
    promise.note("the whole image", f"{image.megabytes:.1f} MB, of which the base is Debian with its Python here")
    present = {path.name.lower() for path in folder.iterdir()} & (NEVER | never)
    promise(f"none of {', '.join(sorted(NEVER | never))} is installed", not present, present or "")
    tools = [name for name in ("gcc", "cc", "ld", "as", "strip") if shutil.which(name, path=str(root / "usr/bin"))]
    promise("there is no compiler", not tools, tools or "")
    left = [name for name in ("root/.cache", "build", "code", "training", "etc/pip.conf") if (root / name).exists()]
    left += [path.name for path in (root / "opt").iterdir() if path.name != "unroll"]
    promise("nothing of the build is left", not left, left or "")
    version = folder.parent.name.removeprefix("python").replace(".", "")
    differing = other_code(folder, version)
    promise("it has its own compiled code and no other", not differing, differing or "")
    stale = [path for path in folder.rglob("*.py") if not list(path.parent.glob(f"__pycache__/{path.stem}.*.pyc"))]
    stale = [path for path in stale if "torch/testing" not in str(path)]  # some are for other versions of Python
    promise("every module is compiled", not stale, [str(path.relative_to(folder)) for path in stale[:3]] or "")
    writable = ("(", "-perm", "/022", "-o", "-uid", USER.split(":")[0], ")")
    search = ["find", str(root / "opt/unroll"), "-not", "-type", "l", *writable]
    loose = subprocess.run(search, capture_output=True, text=True, check=True).stdout.split()
    promise("its user can change nothing of the program", not loose, loose[:3] or "")


def other_code(folder: Path, version: str) -> list[str]:
    """Compiled files in our packages that are not ours or of another Python, and modules of ours that lack.

    folder: of packages. version: of Python, in digits, as its extensions are named.
    """
    extensions = tomllib.loads(PROJECT.read_text("utf-8"))["tool"]["setuptools"]["ext-modules"]
    ours = {str(one["name"]).replace(".", "/") for one in extensions}
    there = {
        path.relative_to(folder).as_posix()
        for name in ("model", "training", "service")
        for path in (folder / name).rglob("*.so")
    }
    right = {name for name in there if f"-{version}-" in name and name.partition(".")[0] in ours}
    return [*sorted(there - right), *sorted(ours - {name.partition(".")[0] for name in right})]
