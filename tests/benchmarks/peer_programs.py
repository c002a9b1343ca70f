"""Gets what the peers are made of, once, into `build/peers`: llama.cpp's server from source, and two packages."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from model.checkpoint import BUNDLED, load
from tests.benchmarks.server_process import REPOSITORY

PLACE = REPOSITORY / "build" / "peers"
PACKAGES = PLACE / "packages"
SOURCE = "llama-cpp-python==0.3.36"  # its archive holds the source of llama.cpp
BESIDE = ("gguf==0.19.0", "litserve==0.2.19")
OPTIONS = (
    *("-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF"),
    *("-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"),
)


def _run(*command: str) -> None:
    with (PLACE / "build.log").open("ab") as log:
        if subprocess.run(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
            raise RuntimeError(f"`{' '.join(command)}` failed; {PLACE / 'build.log'} says why.")


def packages() -> Path:
    """A folder with gguf and litserve, for the path of the processes that need them."""
    if not (PACKAGES / "litserve").exists():
        PLACE.mkdir(parents=True, exist_ok=True)
        _run(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(PACKAGES), *BESIDE)
    return PACKAGES


def llama_server() -> Path:
    """The program `llama-server`, compiled for this processor: about ten minutes on two cores, the first time.

    Raises RuntimeError where there is no CMake or compiler, or where it fails.
    """
    program = PLACE / "llama" / "bin" / "llama-server"
    if program.exists():
        return program
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        raise RuntimeError("llama.cpp is built from source: install cmake and a C++ compiler, then run this again.")
    PLACE.mkdir(parents=True, exist_ok=True)
    _run(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--dest", str(PLACE), SOURCE)
    with tarfile.open(next(PLACE.glob("llama_cpp_python-*.tar.gz"))) as archive:
        archive.extractall(PLACE, filter="data")
    source = next(PLACE.glob("llama_cpp_python-*/vendor/llama.cpp"))
    _run("cmake", "-S", str(source), "-B", str(PLACE / "llama"), *OPTIONS)
    _run("cmake", "--build", str(PLACE / "llama"), "--target", "llama-server", "--parallel", "2")
    return program


def transformer() -> Path:
    """A Transformer for llama.cpp with about as many parameters as the bundled model."""
    file = PLACE / "transformer.gguf"
    if not file.exists():
        checkpoint = load(BUNDLED)
        parameters = sum(int(values.size) for values in checkpoint.tensors.values())
        characters = "".join(checkpoint.tokenizer.characters)
        packages()
        arguments = [str(file), str(parameters), characters]
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.peer_transformer", *arguments],
            cwd=REPOSITORY,
            env=with_packages(),
            check=True,
        )
    return file


def with_packages() -> dict[str, str]:
    """The environment of a process that sees the packages."""
    return os.environ | {"PYTHONPATH": f"{packages()}{os.pathsep}{REPOSITORY}"}
