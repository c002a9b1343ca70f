"""The rules of the house, read from the imports: who may know whom, what stays unloaded, how a file begins and ends."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "training", "service")
LONGEST = 400  # lines of a file
HTTP = {"fastapi", "fastapi_offline", "h11", "starlette", "uvicorn"}
TORCH = {"model/network.py", "model/cuda_step.py"}  # beside all of training
ONNX = {"onnx", "onnxruntime"}
NO_HTTP = {
    f"service/{name}.py"
    for name in (
        *(
            "drawing",
            "engine",
            "environment",
            "errors",
            "fair_use",
            "generation",
            "handover",
            "keys",
            "logs",
            "measures",
            "output",
        ),
        *("plan", "prefix_cache", "scheduler", "settings", "scoring", "served_model", "texts", "worker"),
    )
}


class Import(NamedTuple):
    """One import statement: in which file, of which module, and whether it runs when the file is imported."""

    file: str
    module: str
    at_import: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file} imports {self.module}"


def files_of(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def modules_of(statement: ast.Import | ast.ImportFrom, path: Path) -> Iterator[str]:
    """The modules a statement imports; `from package import module` is that module."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    assert statement.level == 0, f"{name_of(path)} has a relative import; write the package's name"
    base = statement.module or ""
    for alias in statement.names:
        inner = f"{base}.{alias.name}"
        yield inner if (ROOT / f"{inner.replace('.', '/')}.py").is_file() else base


def imports_of(path: Path) -> list[Import]:
    tree = ast.parse(path.read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    late = {id(inner) for outer in ast.walk(tree) if isinstance(outer, functions) for inner in ast.walk(outer)}
    return [
        Import(name_of(path), module, id(statement) not in late)
        for statement in ast.walk(tree)
        if isinstance(statement, (ast.Import, ast.ImportFrom))
        for module in modules_of(statement, path)
    ]


IMPORTS = [one for path in [*files_of(*PACKAGES), ROOT / "unroll.py"] for one in imports_of(path)]


def of_package(package: str) -> list[Import]:
    return [one for one in IMPORTS if one.file.startswith(f"{package}/")]


def listed(imports: list[Import]) -> list[str]:
    return [str(one) for one in imports]


def test_the_imports_were_read() -> None:
    assert "model/arithmetic.py imports numpy" in listed(IMPORTS)
    assert "model/decoder.py imports model.weights" in listed(IMPORTS)
    assert "model/cli.py imports model.checkpoint" in listed([one for one in IMPORTS if not one.at_import])


@pytest.mark.parametrize(
    ("package", "known"), [("model", {"model"}), ("training", {"training", "model"}), ("service", {"service", "model"})]
)
def test_arrows_point_from_service_and_training_to_model_only(package: str, known: set[str]) -> None:
    ours = {*PACKAGES, "tests", "unroll"}
    assert listed([one for one in of_package(package) if one.package in ours - known]) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circles_inside_a_package(package: str) -> None:
    arrows: dict[str, set[str]] = {}
    for one in of_package(package):
        if one.package == package:
            module = one.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            arrows.setdefault(module, set()).add(one.module)

    def walk(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " → ".join([*above[above.index(module) :], module])
        for below in sorted(arrows.get(module, ())):
            walk(below, (*above, module))

    for module in sorted(arrows):
        walk(module, ())


def test_torch_is_imported_only_where_a_network_is_trained_or_runs_on_a_gpu() -> None:
    loads_torch = [one for one in IMPORTS if one.package == "torch" or one.module == "model.network"]
    allowed = [one for one in loads_torch if one.file in TORCH or one.file.startswith("training/")]
    assert listed(loads_torch) == listed(allowed)
    assert {one.file for one in allowed if one.at_import} >= TORCH


def test_the_gpu_s_step_is_imported_only_once_it_is_wanted() -> None:
    assert listed([one for one in IMPORTS if one.module == "model.cuda_step" and one.at_import]) == []


def test_nothing_of_ours_imports_onnx() -> None:
    assert listed([one for one in IMPORTS if one.package in ONNX]) == []
    with (ROOT / "pyproject.toml").open("rb") as file:
        needed = tomllib.load(file)["project"]["dependencies"]
    assert [one for one in needed if re.split(r"[^\w.-]", one)[0] in ONNX | {"torch"}] == []


def test_http_is_spoken_only_in_the_service_and_not_by_its_scheduler_or_engine() -> None:
    assert {name for name in NO_HTTP if not (ROOT / name).is_file()} == set()
    silent = [one for one in IMPORTS if not one.file.startswith("service/") or one.file in NO_HTTP]
    assert listed([one for one in silent if one.package in HTTP]) == []


@pytest.mark.parametrize("path", [*files_of(*PACKAGES, "tests"), ROOT / "unroll.py"], ids=name_of)
def test_a_file_opens_with_one_sentence_and_is_short(path: Path) -> None:
    text = path.read_text("utf-8")
    opening = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
    assert re.fullmatch(r"[A-Z0-9`].+\.", opening, re.DOTALL), f"{name_of(path)} does not open with a sentence"
    assert not re.search(r"[.!?] [A-Z]", opening), f"{name_of(path)} opens with more than one sentence"
    assert text.count("\n") <= LONGEST, f"{name_of(path)} has over {LONGEST} lines"


UNWANTED = ["torch", *sorted(ONNX)]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_asking_for_help_does_not_load_torch_or_the_model() -> None:
    heavy = ["torch", "numpy", "model.decoder", "fastapi"]
    for arguments in (["--help"], ["train", "--help"], ["serve", "--help"], ["generate", "--help"]):
        code = f"""
import runpy, sys
sys.argv = ["unroll", *{arguments}]
try:
    runpy.run_module("unroll", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print([name for name in {heavy} if name in sys.modules])
"""
        assert python(code) == "[]", arguments


def test_generating_does_not_load_torch_or_onnx(checkpoint_folder: Path) -> None:
    code = f"""
import runpy, sys
sys.argv = ["unroll", "generate", {str(checkpoint_folder)!r}, "--max-tokens", "3"]
try:
    runpy.run_module("unroll", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print()
print([name for name in {UNWANTED} if name in sys.modules])
"""
    assert python(code) == "[]"


def test_the_service_does_not_load_torch_or_onnx() -> None:
    assert python(f"import sys, service.app; print([name for name in {UNWANTED} if name in sys.modules])") == "[]"


def test_no_file_leaves_work_for_later() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    if listing.returncode:
        pytest.skip("needs a git checkout")
    # put together here so that this file does not find itself
    marks = re.compile(rf"\b({'|'.join(('TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'))})\b")
    found = []
    for name in filter(None, listing.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            lines = content.decode("utf-8", errors="replace").splitlines()
            found += [f"{name}:{number}" for number, line in enumerate(lines, 1) if marks.search(line)]
    assert found == []


RUNS_CODE = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "yaml", "tarfile", "zipfile", "runpy"}
"""Modules that can run, or unpack anywhere, what stands in a file."""


def calls_of(path: Path) -> set[str]:
    """What a file calls, by its last name, and the names of keyword arguments it gives."""
    called: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                called.add(node.func.id)
            elif isinstance(node.func, ast.Attribute):
                called.add(f".{node.func.attr}")
            called.update(f"{keyword.arg}=" for keyword in node.keywords if keyword.arg)
    return called


def test_p15_no_file_the_server_reads_can_run_code() -> None:
    served = [one for one in IMPORTS if one.file.startswith(("model/", "service/"))]
    assert listed([one for one in served if one.package in RUNS_CODE]) == []
    for path in files_of("model", "service"):
        forbidden = {"eval", "exec", "compile", "__import__", ".loads_pickle", "allow_pickle=", ".unpack_archive"}
        assert calls_of(path).isdisjoint(forbidden), name_of(path)
        if "torch" in path.read_text("utf-8"):
            assert ".load" not in calls_of(path), name_of(path)
