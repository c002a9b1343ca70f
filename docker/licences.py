"""Lists what serving installs with version and licence; LICENCES.md is what it prints."""

import json
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

HEAD = """\
# Licences of what serving installs

Made by `make licences` from the metadata of the packages themselves, as pinned in constraints.txt. Unroll itself has
the MIT licence. What only a client of a model hub needs, which `tokenizers` asks for and serving never calls, is not in
the image (docker/left-out.txt).

| package | version | licence | in the image |
| --- | --- | --- | --- |
"""
VENDORED_HEAD = """
## Files of others in the page

They are part of Unroll's own package, as their authors published them on npm.

| name | version | licence | sha256 |
| --- | --- | --- | --- |
"""
VENDORED = Path(__file__).parents[1] / "service" / "playground" / "vendored.json"

# What people write for the same licence, as SPDX calls it.
SPDX = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
LONGEST = 80  # characters; beyond, the field has the licence's text and not its name


def normal(name: str) -> str:
    """A package's name as all ways to write it are (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(package: Distribution) -> str:
    """Its licence as SPDX writes it: of the newest field of metadata that names one (PEP 639, then the older ones).

    Raises ValueError where none does.
    """
    about = package.metadata
    if "License-Expression" in about:
        return about["License-Expression"]
    named = about["License"].strip() if "License" in about else ""
    if named and len(named) <= LONGEST:
        return SPDX.get(named, named)
    found = [line.split(" :: ")[-1] for line in about.get_all("Classifier") or () if line.startswith("License ::")]
    if not found:
        raise ValueError(f"{about['Name']} does not say what licence it has; look and name it here.")
    return " AND ".join(SPDX.get(one, one) for one in found)


def left_out(path: Path) -> set[str]:
    """The packages of docker/left-out.txt, their names normal."""
    return {normal(line) for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")}


def table(packages: dict[str, Distribution], absent: set[str]) -> str:
    """The page: a line for each package by its name, without those of the tools that install."""
    lines = [
        f"| {name} | {one.version} | {licence(one)} | {'no' if name in absent else 'yes'} |"
        for name, one in sorted(packages.items())
    ]
    return HEAD + "\n".join(lines) + "\n"


def vendored() -> str:
    """A line for each file of the page that others wrote."""
    files = json.loads(VENDORED.read_text("utf-8"))
    lines = [f"| {one['name']} | {one['version']} | {one['licence']} | {one['sha256']} |" for one in files]
    return VENDORED_HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    # The environment to list is that of the Python that runs this, which has nothing but what serving installs.
    installed = {normal(one.metadata["Name"]): one for one in distributions()}
    installed.pop("unroll", None)
    sys.stdout.write(table(installed, left_out(Path(__file__).with_name("left-out.txt"))) + vendored())
