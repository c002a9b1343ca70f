"""Compiles the kernel with the C compiler at hand; where there is none, pip brings one for the time of the build."""

import os
import shutil
import sys

from setuptools import setup
from setuptools.command.build_ext import build_ext

HAS_COMPILER = any(map(shutil.which, (os.environ.get("CC", "cc").split()[0], "cc", "gcc", "clang")))
ZIG = [sys.executable, "-m", "ziglang", "cc"]  # a C compiler as a package of Python's


class BuildKernel(build_ext):
    """As setuptools builds extensions, but with a compiler in any case."""

    def build_extensions(self) -> None:
        """Compile all extensions there are."""
        if not HAS_COMPILER:
            self.compiler.set_executables(compiler_so=[*ZIG, "-fPIC"], linker_so=[*ZIG, "-shared"])
        super().build_extensions()


setup(cmdclass={"build_ext": BuildKernel}, setup_requires=[] if HAS_COMPILER else ["ziglang>=0.13"])
