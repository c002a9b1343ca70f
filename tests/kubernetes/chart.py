"""The chart as Helm renders it, and its values."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "docker/kubernetes"
TOOLS = ROOT / "build/chart"  # where `make chart-proof` puts helm and kubectl
SETS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))

Object = dict[str, Any]


def tool(name: str, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """`helm` or `kubectl`, run to its end."""
    program = TOOLS / name / name
    if not program.is_file():
        pytest.fail(f"There is no {program}; `make chart-proof` puts it there.")
    return subprocess.run([program, *words], input=given, capture_output=True, text=True, timeout=60, check=False)


def helm(verb: str, values: str, *words: str, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    """`helm lint` or `helm template` with one of the sets of values."""
    name = ["unroll"] if verb == "template" else ["--strict"]
    return tool("helm", verb, *name, str(chart), "--values", str(chart / f"ci/{values}-values.yaml"), *words)


def rendered(values: str, *words: str, chart: Path = CHART) -> list[Object]:
    """Every object of a set of values; words: more of Helm's, such as `--set port=9000`."""
    done = helm("template", values, *words, chart=chart)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """The objects of a kind."""
    return [one for one in objects if one["kind"] == kind]


def pod_of(objects: list[Object]) -> Object:
    """The pod that the Deployment makes: its metadata and spec."""
    [deployment] = of_kind(objects, "Deployment")
    pod: Object = deployment["spec"]["template"]
    return pod


def container_of(objects: list[Object]) -> Object:
    """The container that serves."""
    [container] = pod_of(objects)["spec"]["containers"]
    found: Object = container
    return found


def variables(container: Object) -> dict[str, str]:
    """The environment a container is given."""
    return {one["name"]: one["value"] for one in container.get("env", ())}


def merged(below: Any, above: Any) -> Any:
    """Values as Helm merges them: mappings key by key, all else whole."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def values_of(name: str) -> Any:
    """A set of values on top of the chart's own."""
    own, given = (yaml.safe_load(path.read_text("utf-8")) for path in (CHART / "values.yaml", path_of(name)))
    return merged(own, given)


def path_of(name: str) -> Path:
    """The file of a set of values."""
    return CHART / f"ci/{name}-values.yaml"


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all values that are no mapping with something in it."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    else:
        yield path
