"""The laws of the images that the Dockerfile and the files beside it show; docker/image_proof builds and runs them."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path
from types import ModuleType

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement

from model.decoding.kernel_library import PROCESSORS
from service.environment import check_environment
from service.settings import Settings
from tests.service.serving import serving
from unroll import VERBS

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
FINAL = ("serving", "train")
HUB = "huggingface-hub"


def module(name: str) -> ModuleType:
    """A module of the folder docker, which is no package: another one of that name may be installed."""
    spec = importlib.util.spec_from_file_location(f"docker_{name}", DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


licences, requirements = module("licences"), module("requirements")
# Without comments, and each instruction on one line.
DOCKERFILE = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.M))
STAGES = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S))
VARIABLES = dict(re.findall(r"(UNROLL_\w+)=(\S+)", DOCKERFILE))
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def only(instruction: str, stage: str) -> str:
    """The text of an instruction that a stage has once."""
    [found] = re.findall(rf"^{instruction} (.*)$", STAGES[stage], re.M)
    return str(found)


def copied(text: str) -> set[str]:
    """What is copied from the project's folder."""
    return {word for line in re.findall(r"^COPY ([^-].*) \S+$", text, re.M) for word in line.split()}


def test_the_last_stage_serves_and_takes_nothing_of_pytorch() -> None:
    assert [*STAGES][-1] == "serving"
    assert re.findall(r"^FROM .*$", DOCKERFILE, re.M)[-2:] == ["FROM program AS train", "FROM program AS serving"]
    assert [name for name, text in STAGES.items() if re.search("torch", text, re.I)] == ["training"]
    assert [name for name, text in STAGES.items() if "--from=training" in text] == ["train"]


@pytest.mark.parametrize("stage", FINAL)
def test_a_final_stage_is_a_number_and_runs_neither_compiler_nor_pip(stage: str) -> None:
    user, group = only("USER", stage).split(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    assert not re.search(r"apt-get|pip |gcc", STAGES["program"] + STAGES[stage])
    assert only("STOPSIGNAL", "program") == "SIGTERM"


def test_the_program_itself_is_what_starts_and_what_checks_its_health() -> None:
    assert json.loads(only("ENTRYPOINT", "program")) == ["unroll"]
    for stage in FINAL:
        assert json.loads(only("CMD", stage))[0] in VERBS
    flags, check = only("HEALTHCHECK", "serving").split(" CMD ")
    program, verb = json.loads(check)
    assert program == "unroll"
    assert verb in VERBS
    timeout = re.search(r"--timeout=(\d+)s", flags)
    assert timeout is not None
    assert int(timeout[1]) > float(importlib.import_module("service.health_cli").TIMEOUT_SECONDS)
    assert only("HEALTHCHECK", "train") == "NONE"
    assert only("EXPOSE", "serving") == str(Settings.port)


def test_every_engine_knows_the_flags_of_the_health_check() -> None:
    # A build with an engine that does not know a flag fails; --start-interval is one that Podman 4 refuses.
    flags = re.findall(r"--([a-z-]+)=", only("HEALTHCHECK", "serving"))
    assert set(flags) <= {"interval", "timeout", "start-period", "retries"}


def test_dependencies_are_a_layer_below_the_code() -> None:
    needed = {"pyproject.toml", "constraints.txt", "docker/requirements.py", "docker/left-out.txt"}
    assert copied(STAGES["dependencies"]) == needed
    assert re.findall(r"--from=(\w+)", STAGES["program"]) == ["dependencies", "code"]
    assert "PIP_CONSTRAINT=/build/constraints.txt" in STAGES["dependencies"]


def test_the_context_has_what_is_copied_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] not in "#"]
    everything, *shown = lines[:-3]
    assert everything == "*"
    assert {name[1:] for name in shown if name.startswith("!")} == copied(DOCKERFILE)
    assert all((ROOT / name[1:]).exists() for name in shown)
    assert lines[-3:] == ["**/__pycache__", "**/*.pyc", "**/*.so"]  # the last pattern that matches decides
    packages = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.rstrip("*") for pattern in packages} <= copied(DOCKERFILE)
    assert {f"{name}.py" for name in PROJECT["tool"]["setuptools"]["py-modules"]} <= copied(DOCKERFILE)


def test_the_kernel_is_compiled_for_every_processor_of_its_kind() -> None:
    kernel, *others = PROJECT["tool"]["setuptools"]["ext-modules"]
    flags = [flag for one in (kernel, *others) for flag in one["extra-compile-args"]] + [DOCKERFILE]
    assert [flag for flag in flags if re.search(r"-m(arch|tune|cpu|avx|native)", flag)] == []
    assert {f"model/kernel/{name}.c" for name in PROCESSORS} <= set(kernel["sources"])
    assert all(source.startswith("model/kernel/") for source in kernel["sources"])


def test_no_registry_s_host_is_written() -> None:
    [base] = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.M)
    images = [base, *(service["image"] for service in COMPOSE["services"].values())]
    assert [image for image in images if "." in image.split("/")[0].split(":")[0]] == []
    assert base.startswith("python:3.13-slim")
    for name in ("Dockerfile", "docker/compose.yaml", "Makefile"):
        assert re.findall(r"https?://", (ROOT / name).read_text("utf-8")) == [], name


def test_every_variable_that_is_set_is_a_setting() -> None:
    check_environment(VARIABLES)
    for service in COMPOSE["services"].values():
        check_environment(service.get("environment", {}))
    assert "UNROLL_HOST=0.0.0.0" in only("ENV", "serving")
    named = set(re.findall(r"UNROLL_[A-Z_]+", "".join(path.read_text("utf-8") for path in (DOCKER / "README.md",))))
    check_environment(dict.fromkeys(named, ""))


def test_compose_holds_what_runs_tight() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        if "build" in service:
            assert service["read_only"], name
            assert service["build"].get("target", "serving") in STAGES
    unroll = services["unroll"]
    assert "healthcheck" not in unroll, "the image has its own"
    assert seconds(unroll["stop_grace_period"]) > float(unroll["environment"]["UNROLL_GRACE_SECONDS"])
    assert unroll["mem_limit"]
    assert {name: one.get("profiles") for name, one in services.items()} == {
        "unroll": None, "train": ["train"], "prometheus": ["watch"], "grafana": ["watch"]
    }  # fmt: skip


def seconds(text: str) -> float:
    return float(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


def test_keys_are_files_that_prometheus_has_one_of() -> None:
    assert COMPOSE["services"]["unroll"]["environment"]["UNROLL_API_KEYS_FILE"] == "/run/secrets/api-keys"
    assert COMPOSE["services"]["unroll"]["secrets"] == ["api-keys"]
    [job] = yaml.safe_load((DOCKER / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics-key"
    assert COMPOSE["services"]["prometheus"]["secrets"] == ["metrics-key"]
    assert job["static_configs"] == [{"targets": [f"unroll:{Settings.port}"]}]
    ignored = (DOCKER / ".gitignore").read_text("utf-8").split()
    assert [one["file"] for one in COMPOSE["secrets"].values() if one["file"].split("/")[1] + "/" not in ignored] == []


DASHBOARD = json.loads((DOCKER / "grafana/dashboards/unroll.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_the_dashboard_asks_only_for_metrics_there_are(checkpoint_folder: Path) -> None:
    asked = {name for query in QUERIES for name in re.findall(r"\b(?:unroll|process|python)_\w+", query)}
    with serving(Settings(checkpoint=checkpoint_folder)) as running:
        running.complete("a", max_tokens=2)
        text = running.client.get("/metrics").text
    shown = set(re.findall(r"^(\w+)[{ ]", text, re.M))
    assert asked - shown == set()
    known = {name for name in shown if name.startswith("unroll_") and not name.endswith(("_created", "_bucket"))}
    # What other panels already tell, or nobody asks in the day's work.
    assert {re.sub("_(sum|count)$", "_bucket", name) for name in known - asked} - asked <= {
        "unroll_texts_submitted_total"
    }
    for reason in re.findall(r'reason=\\?"(\w+)\\?"', " ".join(QUERIES)):
        assert f'reason="{reason}"' in text, reason


def test_every_panel_has_a_unit_thresholds_and_says_what_it_shows() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    questions = ["Is it up?", "Is it fast?", "Is it full?", "What is refused?", "How does memory do?", "Which models?"]
    assert rows == questions
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        if panel["type"] != "heatmap":
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells = [
        (x, y)
        for one in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(one["x"], one["x"] + one["w"])
        for y in range(one["y"], one["y"] + one["h"])
    ]
    assert max(x for x, _ in cells) < 24
    assert len(set(cells)) == len(cells), "panels overlap"


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    [source] = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["current"]["value"] == source["uid"]
    assert source["url"] == "http://prometheus:9090"
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    [provider] = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/unroll.yaml").read_text())["providers"]
    folder = provider["options"]["path"]
    mounted = [one for one in COMPOSE["services"]["grafana"]["volumes"] if one.split(":")[1] == folder]
    assert mounted == [f"./grafana/dashboards:{folder}:ro"]
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DOCKER / "grafana/dashboards" / Path(home).name).is_file()


def needed_by(names: list[str], without: str = "") -> dict[str, Distribution]:
    """The installed packages that requirements take here, and theirs; but none through one that is left away."""
    found: dict[str, Distribution] = {}
    open_ = [Requirement(one) for one in names]
    while open_:
        one = open_.pop()
        name = licences.normal(one.name)
        if name in found or name == without or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        found[name] = distribution(one.name)
        open_ += [Requirement(line) for line in found[name].requires or ()]
    return found


SERVING = needed_by(PROJECT["project"]["dependencies"])


def test_what_the_image_leaves_out_is_the_hub_s_client_and_what_it_alone_needs() -> None:
    without = needed_by(PROJECT["project"]["dependencies"], without=HUB)
    assert licences.left_out(DOCKER / "left-out.txt") == SERVING.keys() - without.keys()


def test_the_list_of_licences_has_exactly_the_pins_of_serving() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").split()
    pins = {licences.normal(name): version for name, version in (line.split("==") for line in lines)}
    assert SERVING.keys() <= pins.keys()
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.+) \| (yes|no) \|$", (ROOT / "LICENCES.md").read_text("utf-8"), re.M)
    assert [(name, version) for name, version, _, _ in rows] == sorted((name, pins[name]) for name in SERVING)
    absent = licences.left_out(DOCKER / "left-out.txt")
    for name, version, licence, inside in rows:
        assert (inside == "no") == (name in absent), name
        if SERVING[name].version == version:
            assert licence == licences.licence(SERVING[name]), name
    copyleft = [name for name, _, licence, inside in rows if inside == "yes" and re.search("GPL|MPL|EUPL", licence)]
    assert copyleft == []


def test_the_requirements_are_the_project_s() -> None:
    assert requirements.requirements(ROOT / "pyproject.toml") == PROJECT["project"]["dependencies"]
    train = requirements.requirements(ROOT / "pyproject.toml", "train")
    assert train == PROJECT["project"]["optional-dependencies"]["train"]
    assert len([one for one in train if one.startswith("torch")]) == 1  # the Dockerfile looks for that line


@pytest.mark.parametrize(
    ("removed", "added", "differing"),
    [
        ("", "", []),
        ("training/_lstm", "", ["training/_lstm"]),
        ("", "model/_other.cpython-313-x86_64-linux-gnu.so", ["model/_other.cpython-313-x86_64-linux-gnu.so"]),
        ("", "model/_kernel.cpython-311-x86_64-linux-gnu.so", ["model/_kernel.cpython-311-x86_64-linux-gnu.so"]),
    ],
)
def test_the_proof_knows_what_is_compiled(removed: str, added: str, differing: list[str], tmp_path: Path) -> None:
    """By pyproject.toml, so that another extension does not make it false."""
    ours = [one["name"].replace(".", "/") for one in PROJECT["tool"]["setuptools"]["ext-modules"]]
    names = [f"{name}.cpython-313-x86_64-linux-gnu.so" for name in ours if name != removed]
    for name in [*names, *([added] if added else [])]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    asked = "import contents_proof as p, json, sys; print(json.dumps(p.other_code(p.Path(sys.argv[1]), '313')))"
    command = [sys.executable, "-c", asked, str(tmp_path)]
    said = subprocess.run(command, cwd=DOCKER / "image_proof", capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == differing


def test_the_proof_says_what_it_needs() -> None:
    command = [sys.executable, str(DOCKER / "image_proof"), "train"]
    done = subprocess.run(command, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ("The proof needs podman and debootstrap; on Debian: apt-get install podman debootstrap.\n")


def test_process_1_hears_sigterm_before_it_serves(checkpoint_folder: Path) -> None:
    namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    try:
        subprocess.run([*namespace, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs unshare and the right to make a namespace of processes")
    program = [sys.executable, "-m", "unroll", "serve", str(checkpoint_folder), "--port", "0"]
    outer = subprocess.Popen([*namespace, *program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        deadline = time.monotonic() + 20
        while not catches(children.read_text(), signal.SIGTERM):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(int(children.read_text()), signal.SIGTERM)
        output, _ = outer.communicate(timeout=10)
        assert outer.returncode in {128 + signal.SIGTERM, 0}
        assert b"Serving" not in output
    finally:
        outer.kill()
        outer.communicate()


def catches(children: str, number: signal.Signals) -> bool:
    """Whether the only child has a handler for a signal yet."""
    if not children.strip():
        return False
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{int(children)}/status").read_text(), re.M)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)
