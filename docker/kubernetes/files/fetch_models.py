"""Fetches an archive of models by HTTP, checks its SHA-256, and unpacks it into the folder that the server reads."""

import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 60  # of silence
BLOCK = 1 << 20


def main(url: str, digest: str, target: Path) -> None:
    """Fetch and unpack, or end with a sentence; a part of an archive is never left as a model."""
    if not hasattr(tarfile, "data_filter"):
        sys.exit("Python 3.11.4 or newer is needed to unpack an archive safely; choose an image that has it.")
    # Beside the models, and under a name that is none of a model's.
    with tempfile.TemporaryDirectory(dir=target, prefix=".fetch-") as work:
        archive, unpacked = Path(work, "archive"), Path(work, "unpacked")
        counted = hashlib.sha256()
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, archive.open("wb") as file:
            while block := answer.read(BLOCK):
                counted.update(block)
                file.write(block)
        if counted.hexdigest() != digest.lower():
            sys.exit(f"The archive's SHA-256 is {counted.hexdigest()}, and models.archive.sha256 is {digest}.")
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")  # which refuses paths and links that lead out of the folder
        archive.unlink()
        for folder in sorted(unpacked.iterdir()):
            # A container that is started again finds what it unpacked before.
            shutil.rmtree(target / folder.name, ignore_errors=True)
            folder.rename(target / folder.name)
            sys.stdout.write(f"{folder.name}\n")


if __name__ == "__main__":
    main(os.environ["URL"], os.environ["SHA256"], Path(sys.argv[1]))
