"""The rules of the house, read from the imports: who may know whom, what stays unloaded, how a file begins and ends."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "training", "service")
LONGEST = 400  # lines of a file
HTTP = {"fastapi", "fastapi_offline", "h11", "starlette", "uvicorn"}
SPEAKS_HTTP = tuple(
    f"service/{name}"
    for name in (
        *("analysis", "api", "chat", "embeddings", "monitoring", "openai", "playground"),
        *("security", "tgi", "transport", "app.py", "ray_serve.py", "server.py", "start.py"),
    )
)
TORCH = {  # beside all of training
    *("model/network.py", "model/cells/torch_cells.py", "model/cells/torch_attention.py"),
    *("model/cells/cuda_attention.py", "model/decoding/cuda_decoder.py"),
}
ONNX = {"onnx", "onnxruntime"}

MAY_IMPORT: dict[str, set[str]] = {
    "model/command_line": {"errors"},
    "model/text": {"strict_json", "errors"},
    "model/cells": {"arithmetic"},
    "model/checkpoint": {"files", "text", "strict_json", "memory", "config", "errors"},
    "model/sampling": {"arithmetic", "errors"},
    "model/online_memory": {"decoding", "sampling", "arithmetic", "errors"},
    "model/patterns": {"sampling"},
    "model/constraints": {"patterns", "sampling", "text", "strict_json", "errors"},
    "model/bulk": {
        *("decoding", "online_memory", "sampling", "text", "arithmetic", "held_out_surprise", "surprise_sum"),
        *("command_line", "cores", "files", "strict_json", "errors"),
    },
    "model/cluster": {
        *("bulk", "checkpoint", "constraints", "decoding", "online_memory", "sampling", "held_out_surprise", "errors"),
    },
    "model/commands": {
        *("bulk", "checkpoint", "cluster", "command_line", "constraints", "decoding", "online_memory", "sampling"),
        *("text", "config", "errors", "files", "generate", "held_out_surprise", "memory", "strict_json"),
    },
    "model/decoding": {"checkpoint", "sampling", "text", "cells", "config", "arithmetic", "errors"},
    "service/siblings": set(),
    "service/process": {"siblings", "errors"},
    "service/engine": {"process", "settings", "errors"},
    "service/inference": {"process", "engine", "settings", "errors"},
    "service/models": {"process", "inference", "engine", "settings", "errors"},
    "service/api": {"process", "models", "inference", "engine", "errors", "request_context"},
    "service/openai": {"api", "models", "inference", "engine", "process", "settings", "errors", "request_context"},
    "service/chat": {"openai", "api", "models", "inference", "engine", "settings", "errors", "request_context"},
    "service/embeddings": {"api", "models", "inference", "engine", "settings"},
    "service/tgi": {"api", "models", "inference", "engine", "process", "settings", "request_context"},
    "service/analysis": {"api", "models", "inference", "engine", "process", "settings", "errors", "request_context"},
    "service/monitoring": {
        *("api", "models", "inference", "engine", "process", "siblings", "settings", "request_context"),
    },
    "service/playground": {"api"},
    "service/security": {"api", "process", "siblings", "settings", "errors", "request_context"},
    "service/transport": {"security", "api", "process", "siblings", "settings", "errors", "request_context"},
    "training/data": set(),
    "training/items": {"data"},
    "training/evaluation": {"row_threads"},
    "training/distributed": {"data", "evaluation", "planning", "row_threads"},
    "training/monitoring": set(),
    "training/planning": {"items", "data", "lstm_window", "row_threads"},
    "training/loop": {
        *("distributed", "items", "planning", "data", "evaluation", "monitoring"),
        *("lstm_window", "pointer_loss", "row_threads"),
    },
    "training/report": {"loop", "evaluation", "monitoring"},
    "training/comparison": {"allocator", "report", "loop", "planning", "evaluation", "data", "row_threads"},
    "training/commands": {
        *("allocator", "comparison", "run", "loop", "distributed"),
        *("items", "report", "planning", "evaluation", "monitoring", "data"),
    },
}
"""What each folder may import of its own package, beside itself: folders, and files of the package's top."""


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
    assert "model/decoding/decoder.py imports model.decoding.step_weights" in listed(IMPORTS)
    assert "model/commands/info.py imports model.checkpoint" in listed([one for one in IMPORTS if not one.at_import])


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
    assert listed([one for one in IMPORTS if one.module == "model.decoding.cuda_decoder" and one.at_import]) == []


def test_nothing_of_ours_imports_onnx() -> None:
    assert listed([one for one in IMPORTS if one.package in ONNX]) == []
    with (ROOT / "pyproject.toml").open("rb") as file:
        needed = tomllib.load(file)["project"]["dependencies"]
    assert [one for one in needed if re.split(r"[^\w.-]", one)[0] in ONNX | {"torch"}] == []


def test_http_is_spoken_only_by_the_folders_that_speak_it() -> None:
    silent = [one for one in IMPORTS if not one.file.startswith(SPEAKS_HTTP)]
    assert listed([one for one in silent if one.package in HTTP]) == []


def folders() -> list[str]:
    """Every folder inside a package that holds Python files."""
    return sorted({name_of(path.parent) for path in files_of(*PACKAGES)} - set(PACKAGES))


def test_the_table_lists_every_folder_and_no_other() -> None:
    assert folders() == sorted(MAY_IMPORT)


@pytest.mark.parametrize("folder", folders())
def test_a_folder_imports_only_what_the_table_allows(folder: str) -> None:
    package, name = folder.split("/")
    own = [one for one in IMPORTS if one.file.startswith(f"{folder}/") and one.package == package]
    allowed = MAY_IMPORT[folder] | {name}
    assert listed([one for one in own if one.module.split(".")[1] not in allowed]) == []


def test_the_wheel_has_every_folder() -> None:
    """Editable installs and tests find a folder that a wheel would leave out."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["packages"]["find"]["include"]
    for folder in (*PACKAGES, *folders()):
        assert (ROOT / folder / "__init__.py").is_file()
        assert any(fnmatchcase(folder.replace("/", "."), pattern) for pattern in patterns), folder


def test_no_circles_between_folders() -> None:
    def below(folder: str, above: tuple[str, ...]) -> None:
        assert folder not in above, " → ".join([*above, folder])
        package = folder.partition("/")[0]
        for one in MAY_IMPORT[folder]:
            if f"{package}/{one}" in MAY_IMPORT:
                below(f"{package}/{one}", (*above, folder))

    for folder in MAY_IMPORT:
        below(folder, ())


@pytest.mark.parametrize("folder", folders())
def test_a_folder_holds_its_caption_and_no_more_than_a_dozen_files(folder: str) -> None:
    statements = ast.parse((ROOT / folder / "__init__.py").read_text("utf-8")).body
    assert isinstance(statements[0], ast.Expr)
    assert len(statements) == 1 or folder == "model/checkpoint"  # which hands its names on
    assert 3 <= len(list((ROOT / folder).glob("*.py"))) - 1 <= 12


def test_no_test_file_imports_another() -> None:
    found = [
        one
        for path in files_of("tests")
        for one in imports_of(path)
        if one.module.rpartition(".")[2].startswith("test_")
    ]
    assert listed(found) == []


def test_no_test_replaces_what_servers_in_other_threads_live_by() -> None:
    """A loop that saw another clock for a moment may sleep until that time has come."""
    names = r"(?:asyncio|gc|selectors|threading|time)"
    replaced = re.compile(rf'setattr\(\s*(?:{names}\b(?!, "excepthook")|f?"(?:[\w.]+\.)?{names}\.)')
    assert [name_of(path) for path in files_of("tests") if replaced.search(path.read_text("utf-8"))] == []


@pytest.mark.parametrize("path", [*files_of(*PACKAGES, "examples", "tests"), ROOT / "unroll.py"], ids=name_of)
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
    heavy = ["torch", "numpy", "model.decoding.decoder", "fastapi"]
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


@pytest.mark.parametrize("verb", ["generate {} --max-tokens 3", "evaluate {} README.md --reader int8"])
def test_a_model_generates_and_scores_without_torch_or_onnx(verb: str, checkpoint_folder: Path) -> None:
    code = f"""
import runpy, sys
sys.argv = ["unroll", *{[word.format(checkpoint_folder) for word in verb.split()]!r}]
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


def test_recipes_stand_on_the_commands_and_the_python_face_alone() -> None:
    """What a recipe lacks there is added to Unroll, where others find it, too."""
    ours = {*PACKAGES, "tests"}
    imports = [one for path in files_of("examples") for one in imports_of(path)]
    assert {"examples.logs.sets", "examples.forecasting.recipe"} <= {one.module for one in imports}
    assert listed([one for one in imports if one.package in ours]) == []


def test_every_recipe_says_what_it_is_for_and_what_came_out() -> None:
    recipes = [path for path in (ROOT / "examples").iterdir() if path.is_dir() and list(path.glob("*.py"))]
    listed_there = (ROOT / "examples" / "README.md").read_text("utf-8")
    assert recipes
    for recipe in recipes:
        page = (recipe / "README.md").read_text("utf-8")
        assert re.findall(r"^## (.*)$", page, re.M)[:3] == ["What", "Why", "Result"], recipe.name
        assert f"({recipe.name}/README.md)" in listed_there


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


def test_one_console_stands_before_the_terminal() -> None:
    """Text of a corpus, a model or a name would steer a terminal through any other."""
    found = [
        str(one) for one in IMPORTS if one.module == "rich.console" and one.file != "model/command_line/console.py"
    ]
    assert found == []
