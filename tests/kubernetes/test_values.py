"""The laws of the chart that its files show, without Helm: values, their schema, and the settings of the server."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml  # type: ignore[import-untyped]

from service.environment import check_environment
from service.server import FLUSH_SECONDS
from service.settings import ENVIRONMENT, OPTIONS, Settings, variable_of
from tests.kubernetes.archives import archive
from tests.kubernetes.chart import CHART, ROOT, SETS, leaves, merged, values_of

VALUES = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
TEMPLATES = "".join(path.read_text("utf-8") for path in sorted((CHART / "templates").iterdir()))
FETCH = CHART / "files/fetch_models.py"


def chart_settings() -> ModuleType:
    """The program that writes the settings into the schema."""
    spec = importlib.util.spec_from_file_location("chart_settings", ROOT / "docker/chart_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_schema_knows_exactly_the_settings_of_the_server() -> None:
    program = chart_settings()
    remedy = "run `python docker/chart_settings.py`"
    assert SCHEMA["properties"]["settings"]["properties"] == program.properties(), remedy
    assert OPTIONS.keys() > program.DERIVED
    threads = SCHEMA["properties"]["settings"]["properties"]["threads"]
    assert (threads["type"], threads["minimum"], threads["maximum"]) == ("integer", 1, 256)
    # What the chart sets itself is set by its templates, but the socket and secrets outside of files.
    set_here = {name for name in program.DERIVED if variable_of(name) in TEMPLATES or f"\n{name}: " in TEMPLATES}
    assert program.DERIVED - set_here == {"uds", "api_keys", "state_secret"}


def test_every_variable_in_the_templates_is_a_setting() -> None:
    names = set(re.findall(rf"{ENVIRONMENT}[A-Z_]+\b", TEMPLATES))
    assert len(names) >= 6
    check_environment(dict.fromkeys(names, ""))


@pytest.mark.parametrize("name", SETS)
def test_sets_of_values_are_what_the_schema_allows(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA)
    jsonschema.validate(values_of(name), SCHEMA)


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 3},
        {"ingress": {"enable": True}},
        {"settings": {"max_row": 3}},
        {"settings": {"threads": 1000}},
        {"settings": {"log_format": "jsn"}},
        {"settings": {"api_keys": "a-key-that-everyone-can-see"}},
        {"models": {"archive": {"sha256": "abc"}}},
        {"port": 80},
    ],
    ids=str,
)
def test_a_misspelt_or_impossible_value_is_refused(wrong: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(merged(VALUES, wrong), SCHEMA)


def described(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all values the schema names; each has to be described."""
    for name, one in schema.get("properties", {}).items():
        assert one["description"].endswith((".", "]")), name
        yield from described(one, (*path, name)) if one.get("properties") else [(*path, name)]


def test_values_and_their_schema_name_the_same_and_the_templates_use_all() -> None:
    ours = {path for path in leaves(VALUES) if path[0] not in ("settings", "resources")}
    theirs = {path for path in described(SCHEMA) if path[0] not in ("settings", "resources", "global")}
    assert ours == theirs
    for path in ours:
        assert re.search(rf"[.$\"]{path[-1]}\b", TEMPLATES), path
    for group, name in re.findall(r"\.Values\.(\w+)(?:\.(\w+))?", TEMPLATES):
        assert group in VALUES, group
        assert not name or group == "settings" or name in VALUES[group], f"{group}.{name}"


def test_defaults_are_those_of_the_server() -> None:
    assert VALUES["port"] == Settings.port
    assert VALUES["graceSeconds"] == Settings.grace_seconds
    assert VALUES["autoscaling"]["running"] < Settings.max_rows
    assert VALUES["autoscaling"]["waiting"] < Settings.max_waiting
    [margin] = re.findall(r"add \.Values\.preStopSeconds \.Values\.graceSeconds (\d+)", TEMPLATES)
    assert int(margin) > FLUSH_SECONDS
    assert f'dig "deadline_seconds" {Settings.deadline_seconds:.0f} ' in TEMPLATES
    assert f'dig "keep_alive_seconds" {Settings.keep_alive_seconds:.0f} ' in TEMPLATES
    assert f'dig "max_body_bytes" {Settings.max_body_bytes} ' in TEMPLATES
    [user] = set(re.findall(r"(?:runAsUser|runAsGroup|fsGroup): (\d+)", TEMPLATES))
    assert f"USER {user}:{user}" in (ROOT / "Dockerfile").read_text("utf-8")
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "pyproject.toml").read_text("utf-8")


@pytest.mark.parametrize("name", SETS)
def test_no_registry_s_host_is_written(name: str) -> None:
    values = values_of(name)
    images = [values["image"]["repository"], values["models"]["copy"]["image"]]
    images.append(values["models"]["volume"].get("image", {}).get("reference", ""))
    assert [image for image in images if re.search(r"[./]", image)] == []


def fetch(url: str, digest: str, target: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "URL": url, "SHA256": digest}
    command = [sys.executable, str(FETCH), str(target)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


SAFE = pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="needs Python 3.11.4, which unpacks safely")
WITHOUT = """
import runpy, sys, tarfile
vars(tarfile).pop("data_filter", 0)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_a_python_that_cannot_unpack_safely_fetches_nothing(tmp_path: Path) -> None:
    environment = {"URL": "http://127.0.0.1:9/", "SHA256": "0" * 64}
    command = [sys.executable, "-c", WITHOUT, str(FETCH), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, "Python 3.11.4 or newer is needed" in done.stderr) == (1, True)


@SAFE
def test_an_archive_of_models_is_unpacked_also_twice(tmp_path: Path) -> None:
    target = tmp_path / "models"
    target.mkdir()
    with archive(tmp_path, {"a/config.json": b"one", "./b/config.json": b"two"}) as (url, digest):
        assert [fetch(url, digest.upper(), target).stdout for _ in range(2)] == ["a\nb\n"] * 2
    assert sorted(path.name for path in target.iterdir()) == ["a", "b"]
    assert [(target / name / "config.json").read_bytes() for name in "ab"] == [b"one", b"two"]


@SAFE
def test_another_archive_than_the_one_meant_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "models"
    target.mkdir()
    with archive(tmp_path, {"a/config.json": b"one"}) as (url, digest):
        done = fetch(url, "0" * 64, target)
    assert done.returncode == 1
    assert done.stderr == f"The archive's SHA-256 is {digest}, and models.archive.sha256 is {'0' * 64}.\n"
    assert list(target.iterdir()) == []


@SAFE
def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "models"
    target.mkdir()
    with archive(tmp_path, {"a/config.json": b"one", "../../out": b"two"}) as (url, digest):
        done = fetch(url, digest, target)
    assert done.returncode == 1
    assert "OutsideDestinationError" in done.stderr
    assert list(target.iterdir()) == []
    assert not (tmp_path / "out").exists()
