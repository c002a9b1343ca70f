"""What people do with the page, in Chromium: scenarios.mjs has them, each against the server that it needs."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.checkpoint import BUNDLED, save
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.serving import Running, SlowDecoder, serving

HERE = Path(__file__).parent
KEY = "k" * 32
SCENARIOS = re.findall(
    r"^export async function (\w+)\(browser, url\)", (HERE / "scenarios.mjs").read_text("utf-8"), re.M
)
KINDS = {
    "a_key_is_asked_for_once": "locked",
    "chooses_and_compares_models": "two",
    "an_error_in_the_middle_is_a_sentence": "hasty",
    "nothing_moves_while_text_streams": "slow",
    "stop_keeps_what_came": "slow",
    "the_connection_breaks_and_comes_back": "slow",
}

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of each kind of server; all have the bundled model."""
    tiny = tmp_path_factory.mktemp("models") / "tiny"
    save(small_checkpoint(), tiny)
    locked = Settings(root_path="/llm", api_keys=KEY)
    with (
        serving(Settings()) as plain,
        serving(locked) as with_key,
        serving(Settings(), SlowDecoder) as slow,
        serving(Settings(deadline_seconds=1), SlowDecoder) as hasty,
        serving(Settings(checkpoint=BUNDLED, others=(f"tiny={tiny}",))) as two,
    ):
        yield {
            "plain": at(plain),
            "locked": f"{at(with_key)}llm/",
            "slow": at(slow),
            "hasty": at(hasty),
            "two": at(two),
        }


def at(running: Running) -> str:
    return f"{running.url}/"


def test_all_scenarios_were_found() -> None:
    assert len(SCENARIOS) > 10
    assert KINDS.keys() <= set(SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str, servers: dict[str, str]) -> None:
    chromium, node = shutil.which("chromium"), shutil.which("node")
    if chromium is None or node is None:
        pytest.fail("needs Chromium and Node: apt-get install chromium nodejs npm")
    assert (HERE / "node_modules").is_dir(), "needs its npm packages: make browser"
    done = subprocess.run(
        [node, str(HERE / "run.mjs"), scenario, servers[KINDS.get(scenario, "plain")]],
        env={**os.environ, "CHROMIUM": chromium, "KEY": KEY},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
