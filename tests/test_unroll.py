"""The program as it is started: from any folder, through make, as process 1, and asked for its version or its help."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.service.serving import program
from unroll import PACKAGES, VERBS

ROOT = Path(__file__).parents[1]
MINE = 'raise SystemExit("a stranger\'s module was run")\n'


def elsewhere(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python, started in a folder from which the repository can be imported."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def stranger(folder: Path, package: str, kind: str) -> Path:
    """Somebody's own module, package or folder of data with the name of one of ours; where Python finds it."""
    inside = {"module": f"{package}.py", "package": f"{package}/__init__.py", "folder": f"{package}/weights.py"}
    file = folder / inside[kind]
    file.parent.mkdir(exist_ok=True)
    file.write_text(MINE)
    return file


@pytest.mark.parametrize("kind", ["module", "package", "folder"])
def test_the_program_runs_where_somebody_has_modules_of_our_names(tmp_path: Path, kind: str) -> None:
    for package in PACKAGES:
        stranger(tmp_path, package, kind)
    told = elsewhere(tmp_path, "-m", "unroll", "--version")
    assert (told.returncode, told.stdout, told.stderr) == (0, f"unroll {version('unroll')}\n", "")
    for word, shown in (("info", "parameters"), ("--help", "Measure what a model's text copies")):
        done = elsewhere(tmp_path, "-m", "unroll", word)
        assert (done.returncode, done.stderr) == (0, "")
        assert shown in done.stdout


def test_the_installed_command_runs_there_too(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("unroll")
    if not command.is_file():
        pytest.skip("needs the command that installing makes")
    for package in PACKAGES:
        stranger(tmp_path, package, "module")
    done = elsewhere(tmp_path, str(command), "info")
    assert (done.returncode, done.stderr) == (0, "")
    assert "parameters" in done.stdout


def test_a_file_is_still_read_from_the_current_folder(tmp_path: Path) -> None:
    stranger(tmp_path, "model", "module")
    (tmp_path / "prompt.txt").write_text("Once")
    done = elsewhere(tmp_path, "-m", "unroll", "generate", "--prompt-file", "prompt.txt", "--max-tokens", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Once")


@pytest.mark.parametrize("package", PACKAGES)
def test_as_a_library_it_names_the_file_that_hides_a_package(tmp_path: Path, package: str) -> None:
    file = stranger(tmp_path, package, "module")
    done = elsewhere(tmp_path, "-c", "import unroll")
    assert done.returncode == 1
    assert f"ImportError: {file} hides Unroll's own package `{package}`, which lies in {ROOT / package};" in done.stderr


AS_INSTALLED_EDITABLE = """
import sys
from importlib.machinery import PathFinder

class Editable:
    root = sys.path.pop(1)

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return PathFinder.find_spec(name, [cls.root])

sys.meta_path.insert(sys.meta_path.index(PathFinder) + 1, Editable)
import unroll
"""


def test_as_a_library_it_names_the_folder_without_code_that_hides_a_package(tmp_path: Path) -> None:
    stranger(tmp_path, "model", "folder")
    done = elsewhere(tmp_path, "-c", AS_INSTALLED_EDITABLE)
    assert f"ImportError: {tmp_path / 'model'} hides Unroll's own package `model`" in done.stderr
    assert elsewhere(ROOT, "-c", AS_INSTALLED_EDITABLE).returncode == 0


def test_as_a_library_it_names_the_file_of_a_module_of_our_name_that_is_loaded_already(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("")
    done = elsewhere(tmp_path, "-c", "import model, unroll")
    assert f"ImportError: {tmp_path / 'model.py'} hides" in done.stderr
    made = elsewhere(ROOT, "-c", "import sys, types; sys.modules['model'] = types.ModuleType('model'); import unroll")
    assert made.returncode == 0  # no file is to blame


def test_a_path_that_names_the_folder_as_well_is_refused_in_a_sentence(tmp_path: Path) -> None:
    file = stranger(tmp_path, "service", "module")
    path = f"import os, sys; os.environ['PYTHONPATH'] = {str(tmp_path)!r} + os.pathsep + {str(ROOT)!r}; "
    done = elsewhere(tmp_path, "-c", path + "os.execv(sys.executable, [sys.executable, '-m', 'unroll', 'info'])")
    assert done.returncode == 1
    assert done.stderr.startswith(f"unroll: {file} hides Unroll's own package `service`")
    assert "Traceback" not in done.stderr


def test_python_s_safe_path_is_left_as_it_is(tmp_path: Path) -> None:
    stranger(tmp_path, "model", "module")
    done = elsewhere(tmp_path, "-P", "-m", "unroll", "--version")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_is_gone_is_no_obstacle(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os, sys; os.rmdir({str(gone)!r}); os.execv(sys.executable, [sys.executable, '-m', 'unroll', '-h'])"
    done = elsewhere(gone, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_the_installed_one() -> None:
    done = program("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"unroll {version('unroll')}\n", "")


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_h_is_help(verb: str) -> None:
    done = program(*verb.split(), "-h", COLUMNS="100")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: {' '.join(['unroll', *verb.split()])} " in done.stdout
    assert "--help" in done.stdout


def completed(*words: str) -> list[str]:
    """What a shell is offered for the last of the words."""
    typed = {"_UNROLL_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    return program(**typed).stdout.split()


def test_a_shell_completes_verbs_and_flags() -> None:
    assert completed("unroll", "se") == ["serve"]
    assert completed("unroll", "e") == ["evaluate"]
    assert completed("unroll", "serve", "--po") == ["--port"]
    shown = program("--help").stdout
    assert "--install-completion" in shown
    assert "--show-completion" in shown
    assert "-completion" not in program("serve", "--help").stdout


HANDLERS = """
import os, signal, sys
import unroll
assert os.getpid() == 1
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "import"
assert not {"typer", "rich", "click"} & set(sys.modules), "slow imports"

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in {"typer", "rich", "model"}:
            assert signal.getsignal(signal.SIGTERM) is unroll.end_now, name
            assert signal.getsignal(signal.SIGINT) is unroll.end_now, name
            os.kill(1, signal.SIGTERM)

sys.meta_path.insert(0, Watch())
sys.argv = ["unroll", "info"]
unroll.main()
"""


def test_process_1_hears_signals_before_its_first_slow_import_and_not_by_an_import() -> None:
    namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    try:
        subprocess.run([*namespace, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs unshare and the right to make a namespace of processes")
    done = subprocess.run([*namespace, sys.executable, "-c", HANDLERS], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")


def test_a_process_that_is_not_the_first_keeps_its_handlers() -> None:
    code = """
import signal, sys, unroll
sys.argv = ["unroll", "--version"]
try:
    unroll.main()
finally:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    done = elsewhere(ROOT, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def make(*words: str) -> list[str]:
    """The lines that make prints; of the variables of this process it sees none but the path."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    done = subprocess.run(["make", *words], cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["serve"], "unroll serve"),
        (["serve", "PORT=8001"], "unroll serve --port 8001"),
        (
            ["serve", "PORT=8001", "CHECKPOINT=folder", "FLAGS=--threads 2"],
            "unroll serve folder --port 8001 --threads 2",
        ),
        (["train"], "unroll train"),
        (["train", "CORPUS=a.txt", "FLAGS=--minutes 4"], "unroll train a.txt --minutes 4"),
        (["test", "FLAGS=-k tokenizer"], "python -m pytest --numprocesses 2 --dist worksteal -k tokenizer"),
    ],
)
def test_make_passes_on_what_it_is_given(words: list[str], command: str) -> None:
    assert make("-n", *words)[-1].split() == f".venv/bin/{command}".split()


def test_make_takes_a_path_with_spaces_and_several_paths(tmp_path: Path) -> None:
    book, other = tmp_path / "book two's.txt", tmp_path / "other.txt"
    for path in (book, other):
        path.touch()
    for target, name in (("train", "CORPUS"), ("serve", "CHECKPOINT")):
        for given, paths in ((f"{book}", [book]), (f"{other} {other}", [other, other])):
            command = shlex.split(make("-n", target, f"{name}={given}")[-1])
            assert command == [".venv/bin/unroll", target, *map(str, paths)]


def test_make_help_tells_of_every_target_in_lines_that_fit() -> None:
    usage, *lines = told = make("help")
    assert max(map(len, told)) <= 80
    lines = re.sub(r"\n {15}", " ", "\n".join(lines)).splitlines()
    assert "make serve" in usage
    [phony] = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    described = dict(line.split(maxsplit=1) for line in lines)
    assert sorted(described) == sorted(phony.split())
    assert len(lines) == len(described)
    assert [text for text in described.values() if not re.fullmatch(r"[A-Z].+\.", text)] == []
    assert make() == told


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_installs_anew_when_any_source_of_an_extension_changes() -> None:
    shown = subprocess.run(["make", "-pn", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [built_from] = re.findall(r"^BUILT_FROM := (.+)$", shown, re.M)
    sources = {
        path.relative_to(ROOT).as_posix() for name in ("model", "training") for path in (ROOT / name).rglob("*.[ch]")
    }
    assert len(sources) > 10
    assert sources <= set(built_from.split())
