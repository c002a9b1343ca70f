"""The fuzzer schemathesis against the API's own description: data that fits it and data that does not."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.clients.conftest import Served
from tests.service.serving import REPOSITORY

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(find_spec("schemathesis") is None, reason="needs the extra `clients`: make clients"),
]

EXAMPLES = 40  # of each operation, besides those of the coverage phase, which tries every field at its limits
SECONDS = 30  # that one answer may take
EXCLUDED = 1  # operation, whose path is below
LEAST_CASES = 1500
CONFIG = """
[checks.negative_data_rejection]
expected-statuses = [400, 403, 404, 405, 406, 413, 415, 422]
"""
"""What refuses data that does not fit, 413 for too many values among it."""


@pytest.mark.timeout(300)
def test_p10_every_answer_is_as_described(served: Served, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--mode", "all", "--checks", "all"),
            *("--max-examples", str(EXAMPLES), "--generation-allow-x00", "true", "--generation-deterministic"),
            # A model may be named x/info, so that POST /models/x/info is a route, which no list of paths can say.
            *("--exclude-path-regex", "^/models/.model./info$"),
            *("--request-timeout", str(SECONDS), "--continue-on-failure", "--no-color"),
            *("--report", "json", "--report-json-path", str(report)),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "SCHEMATHESIS_HOOKS": "tests.clients.schemathesis_hooks"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    found = json.loads(report.read_text())
    assert found["operations"]["tested"] == found["operations"]["total"] - EXCLUDED >= 13
    assert {phase["status"] for phase in found["phases"].values()} == {"success"}
    assert found["test_cases"]["generated"] >= LEAST_CASES
    assert found["warnings"]["unresolvable_reference"] == []
    health = served.http.get("/health").json()
    assert (health["status"], health["failures"]) == ("ok", 0)
    assert (health["running"], health["waiting"]) == (0, 0)
