"""Prints what the project depends on, or what extras add to that, one requirement a line; for the Dockerfile."""

import sys
import tomllib
from pathlib import Path


def requirements(project: Path, *extras: str) -> list[str]:
    """What pyproject.toml names for the program, or for extras alone. Raises KeyError on an extra it does not have."""
    table = tomllib.loads(project.read_text("utf-8"))["project"]
    needed: list[str] = table["dependencies"]
    return [one for extra in extras for one in table["optional-dependencies"][extra]] if extras else needed


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path("pyproject.toml"), *sys.argv[1:])) + "\n")
