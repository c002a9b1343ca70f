"""The compiled kernel's library: where it lies, which processors it is for, and its functions with their types."""

import ctypes
from ctypes import c_int32
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

PROCESSORS = {"amx": 128, "avx512": 128, "avx2": 0, "neon": 0}
"""The processors there are kernels for, best first, and what each adds to a level before it multiplies; for any other
processor numpy's matrix products are faster than C without its special instructions."""


@cache
def load_library(folder: Path, name: str) -> ctypes.CDLL | None:
    """The library that was compiled into a folder under a name; None where it was not."""
    for suffix in EXTENSION_SUFFIXES:
        if (path := folder / (name + suffix)).is_file():
            try:
                return ctypes.CDLL(str(path))
            except OSError:  # of another system, or damaged: the same as none
                return None
    return None


def library() -> ctypes.CDLL | None:
    """The kernel's library; None where it was not compiled."""
    return load_library(Path(__file__).parents[1], "_kernel")


@cache
def processors() -> list[str]:
    """The processors whose kernels this machine has and can run, best first; empty where none was compiled."""
    compiled = library()
    if compiled is None:
        return []
    return [name for name in PROCESSORS if getattr(compiled, f"supported_{name}")()]


def function(name: str, *arguments: Any, result: Any = c_int32) -> Any:
    """A function of the kernel with its types. There has to be a kernel."""
    return typed(getattr(library(), name), *arguments, result=result)


def typed(function: Any, *arguments: Any, result: Any) -> Any:
    """A function of a library, told its types."""
    function.argtypes, function.restype = arguments, result
    return function
