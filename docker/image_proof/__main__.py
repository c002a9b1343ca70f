"""Builds an image of the Dockerfile with Podman and uses it as its users do, to prove what docker/README.md promises.

Needs root, Podman, and debootstrap, which makes the base image: Debian of the same release with Debian's own Python
under the names of the official image. All that is downloaded or built lies in one folder, which is removed at the end.
Options after `--` go to `podman build` as they are.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from base import make_base, pip_sources
from engine import BUILD_LABELS, Engine
from promises import Promises, say
from serving_proof import prove_serving
from training_proof import prove_training

PROJECT = Path(__file__).resolve().parents[2]
WORK = PROJECT / "build/image_proof"
PROGRAMS = ("podman", "debootstrap")


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="docker/image_proof", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="?", choices=("serving", "train"), default="serving")
    parser.add_argument("--suite", default="trixie", help="Debian's release; trixie has Python 3.13, bookworm 3.11.")
    parser.add_argument("--mirror", default="", help="Where debootstrap finds packages, if not in its usual place.")
    parser.add_argument(
        "--keep", action="store_true", help=f"Keep {WORK.relative_to(PROJECT)}; the next proof builds what changed."
    )
    parser.add_argument("--runtime", default="", help="`runc` where `crun`, Podman's default, refuses to run.")
    parser.add_argument("--storage-driver", default="overlay", help="`vfs`, which is slow, where overlay is refused.")
    words = sys.argv[1:]
    own = words.index("--") if "--" in words else len(words)
    return parser.parse_args(words[:own], argparse.Namespace(build=words[own + 1 :]))


def main() -> None:
    """Build the target and prove it."""
    chosen = options()
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        sys.exit(f"The proof needs {' and '.join(missing)}; on Debian: apt-get install {' '.join(missing)}.")
    if os.geteuid() != 0:
        sys.exit("The proof makes a Debian root and so must run as root; try `sudo make image-proof`.")
    WORK.mkdir(parents=True, exist_ok=True)
    with Engine(WORK, chosen.runtime, chosen.storage_driver, keep=chosen.keep) as engine:
        broken = prove(chosen, engine)
    if broken:
        sys.exit(f"\n{broken} of the promises are broken.")
    say("\nEvery promise holds.")


def prove(chosen: argparse.Namespace, engine: Engine) -> int:
    """How many promises are broken. The proof of training builds both images: what one writes, the other serves."""
    started = time.monotonic()
    arguments = {"BASE": make_base(engine, chosen.suite, chosen.mirror), **BUILD_LABELS}
    say(f"The base image took {time.monotonic() - started:.0f} s.")
    flags = [*pip_sources(WORK), *chosen.build]
    images = {}
    for target in ("train", "serving") if chosen.target == "train" else ("serving",):
        started = time.monotonic()
        images[target] = engine.build(PROJECT, target, arguments, flags)
        say(f"The image {target} took {time.monotonic() - started:.0f} s: {images[target].megabytes:.0f} MB.\n")
    promise = Promises()
    if chosen.target == "train":
        prove_training(promise, engine, images["train"], images["serving"], WORK)
    else:
        prove_serving(promise, engine, images["serving"], WORK)
    return promise.broken


if __name__ == "__main__":
    main()
