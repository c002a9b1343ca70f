"""Makes what a build would else fetch from a registry: the base image, and where pip finds packages on this machine."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

from engine import Engine, check

# The official Python image has these; Debian's Python stands for its own.
PACKAGES = "ca-certificates,netbase,tzdata,python3,python3-venv,python3-pip,python-is-python3"
SOURCES = ("index-url", "extra-index-url", "find-links", "trusted-host", "cert", "proxy", "timeout")
HOME = "/root"


def make_base(engine: Engine, suite: str, mirror: str) -> str:
    """The local name of an image of Debian's packages, made where the engine does not have it yet."""
    name = f"localhost/python:{suite}"
    if engine.has(name):
        return name
    root = engine.work / "debian"
    shutil.rmtree(root, ignore_errors=True)
    words = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(root)]
    check([*words, mirror] if mirror else words)
    archive = root.with_suffix(".tar")
    check(["tar", "--create", f"--file={archive}", f"--directory={root}", "."])
    engine("import", "--change", "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", archive, name)
    shutil.rmtree(root)
    archive.unlink()
    return name


def pip_sources(work: Path) -> list[str]:
    """Options of a build that give its pip this machine's sources of packages.

    They are mounted as root's home and below it, which is in the base, so that no mount point is left in the image.
    """
    asked = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=False)
    found = configured(listed.stdout)  # nothing where this Python has no pip
    home = work.resolve() / "home"
    options = [f"--volume={home}:{HOME}:ro"]
    if certificate := found.get("cert"):
        home.mkdir(exist_ok=True)
        shutil.copy(certificate, home / "cert.pem")
        found["cert"] = f"{HOME}/cert.pem"
    folders = [word for word in found.get("find-links", "").split() if Path(word).is_dir()]
    for number, folder in enumerate(folders):
        (home / f"links-{number}").mkdir(parents=True, exist_ok=True)
        found["find-links"] = found["find-links"].replace(folder, f"{HOME}/links-{number}")
        options.append(f"--volume={folder}:{HOME}/links-{number}:ro")
    extra = found.pop("extra-index-url", "").split()
    if reached := [one for one in extra if not one.startswith("file:")]:  # the build does not see the machine's folders
        found["extra-index-url"] = " ".join(reached)
    conf = home / ".config/pip/pip.conf"
    conf.parent.mkdir(parents=True, exist_ok=True)
    conf.write_text("\n".join(["[global]", *(f"{name} = {value}" for name, value in found.items())]) + "\n")
    return options


def configured(listed: str) -> dict[str, str]:
    """The settings that say where packages come from, of all that `pip config list` prints; the last line wins."""
    found = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in SOURCES:
            found[name] = str(ast.literal_eval(value))
    return found
