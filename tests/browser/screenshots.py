"""Takes the pictures of the page that docs/page.md shows: `make screenshots`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from service.settings import Settings
from tests.service.serving import serving

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "page"


def main() -> int:
    """Serve the bundled model and take every picture anew; the status is 0 if all were taken."""
    chromium, node = shutil.which("chromium"), shutil.which("node")
    if chromium is None or node is None:
        sys.stderr.write("Pictures need Chromium and Node: apt-get install chromium nodejs npm.\n")
        return 1
    DOCS.mkdir(exist_ok=True)
    with serving(Settings()) as running:
        command = [node, str(HERE / "screenshots.mjs"), f"{running.url}/", str(DOCS)]
        return subprocess.run(command, env={**os.environ, "CHROMIUM": chromium}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
