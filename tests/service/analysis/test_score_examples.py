"""What scores are for, as docs/api.md says: ranking what a recogniser heard, and noticing what is out of place."""

import json
import subprocess
from collections.abc import Callable, Iterator

import httpx
import pytest

from service.settings import Settings
from tests.service.serving import Running, serving

HEARD = """
curl -s localhost:8000/v1/score -H 'Content-Type: application/json' -d '{
  "context": "HAMLET:\\n",
  "texts": ["Two bee, oar knot too bee\\n", "To be, or not to be\\n",
            "To be or to not be, or\\n", "Be to not or be, to\\n"]
}'
"""

RANK = '''
import httpx

def best(candidates, context=""):
    """The candidate the model finds likeliest after a context, and by how many bits it leads."""
    body = {"texts": [candidate + "\\n" for candidate in candidates], "context": context}
    answer = httpx.post("http://localhost:8000/v1/score", json=body).json()
    first, second = answer["ranking"]["total"][:2]
    return candidates[first], answer["results"][second]["bits"] - answer["results"][first]["bits"]

print(best(["the king is dead", "the king is dread", "the kin gist head"], context="MESSENGER:\\nMy lord, "))
'''

WATCH = '''
from pathlib import Path
import httpx

def odd(lines, percentile=99):
    """The lines that surprise the model more than that share of text it was never shown, oddest first."""
    answer = httpx.post("http://localhost:8000/v1/score", json={"texts": lines}).json()
    found = [(result["anomaly"]["percentile"], result["bits_per_character"], line)
             for result, line in zip(answer["results"], lines) if result["characters"]]
    return sorted((one for one in found if one[0] >= percentile), reverse=True)

for percentile, bits, line in odd(Path("log.txt").read_text().splitlines()):
    print(f"{percentile:5.1f} %  {bits:5.2f} bits per character  {line}")
'''

MODERN = [
    "GET /index.html HTTP/1.1 200 5316 Mozilla/5.0 (X11; Linux x86_64)",
    "2024-05-17T08:31:02Z ERROR kubelet[1412]: OOMKilled container=api-7f9c",
    "xkq7-vv0zt3.example.ru 443 TLSv1.3 handshake failed: certificate expired",
]


@pytest.fixture(scope="module")
def shakespeare() -> Iterator[Running]:
    """The bundled model."""
    with serving(Settings()) as running:
        yield running


def python(server: Running, code: str) -> str:
    """What a program prints that talks to this server."""
    printed: list[str] = []
    names = {"print": lambda *values: printed.append(" ".join(map(str, values)))}
    exec(code.replace("http://localhost:8000", server.url), names)
    return "\n".join(printed)


def test_the_line_that_was_said_is_ranked_before_what_sounds_like_it(shakespeare: Running) -> None:
    command = HEARD.replace("localhost:8000", shakespeare.url.removeprefix("http://"))
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["ranking"]["total"][0] == 1
    assert answer["ranking"]["per_character"][0] == 1
    assert len(answer["results"]) == 4


def test_the_python_example_names_the_best_candidate(shakespeare: Running) -> None:
    line, lead = eval(python(shakespeare, RANK), {})
    assert line == "the king is dead"
    assert lead > 1


def test_a_watcher_finds_modern_lines_among_shakespeare_s(
    shakespeare: Running, corpus: Callable[[str], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    unread = corpus("tinyshakespeare.txt").decode()[1_060_000:]  # of the test part
    lines = [line for line in unread.splitlines() if 30 <= len(line) <= 80][:200]
    log = tmp_path_factory.mktemp("log") / "log.txt"
    log.write_text("\n".join([*lines[:100], *MODERN, *lines[100:]]))
    printed = python(shakespeare, WATCH.replace("log.txt", str(log))).splitlines()
    found = [line.split(" bits per character  ")[1] for line in printed]
    assert set(found[: len(MODERN)]) == set(MODERN)  # the oddest
    assert len(found) <= len(MODERN) + 5  # one in a hundred of Shakespeare's own is to be expected
    answer = httpx.post(f"{shakespeare.url}/v1/score", json={"texts": lines}).json()
    percentiles = sorted(result["anomaly"]["percentile"] for result in answer["results"])
    assert 25 < percentiles[len(percentiles) // 2] < 75
