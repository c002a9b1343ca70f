"""MaskBench's schemas with their valid and invalid values: none invalid is accepted, and most schemas compile.

The data are those of https://github.com/guidance-ai/jsonschemabench, in maskbench/data; MASKBENCH names the folder.
`make large` runs this, over every MASKBENCH_EVERY-th file, 1 by default.
"""

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from model.constraints.compiling import Compiled, compiled
from model.constraints.constraint import Constraint, Limits
from model.constraints.vocabulary import Vocabulary
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.sampling.transitions import Walk
from tests.benchmarks.timing import percentile
from tests.model.small import small_checkpoint

pytestmark = [pytest.mark.large, pytest.mark.timeout(3600)]

LIMITS = Limits(schema=1 << 20)


def characters_of(files: list[Path]) -> str:
    """Every character of the values, so that none is refused for not being known."""
    found = set(map(chr, range(32, 127)))
    for file in files:
        for test in json.loads(file.read_text("utf-8")).get("tests", ()):
            found |= set(json.dumps(test["data"], ensure_ascii=False))
    return "".join(sorted(one for one in found if not "\ud800" <= one <= "\udfff"))


def accepts(asked: Compiled, columns: dict[str, int], value: Any) -> bool:
    """Whether the value, written compactly, is a whole text."""
    walk: Walk = asked.walk(1 << 20)
    for character in json.dumps(value, ensure_ascii=False, separators=(",", ":")):
        column = columns.get(character)
        if column is None or walk.ended is not None or not walk.take(column):
            return False
    return walk.free if walk.ended is None else walk.ended == "stop"


def test_no_invalid_value_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.environ.get("MASKBENCH")
    if not folder:
        pytest.skip("needs MASKBENCH, the folder maskbench/data of jsonschemabench")
    files = sorted(Path(folder).glob("*.json"))[:: int(os.environ.get("MASKBENCH_EVERY", "1"))]
    checkpoint = small_checkpoint(characters=characters_of(files))
    decoder = Decoder(checkpoint)
    vocabulary = Vocabulary(checkpoint.tokenizer, decoder.ids)
    columns = {vocabulary.characters[bit]: column for column, bit in enumerate(vocabulary.columns) if bit >= 0}
    counts: Counter[str] = Counter()
    seconds, wrong = [], []
    for file in files:
        content = json.loads(file.read_text("utf-8"))
        start = time.process_time()
        try:
            source = json.dumps(content["schema"], ensure_ascii=False)
            asked = compiled(Constraint("json_schema", source, closed=False), vocabulary, LIMITS)
        except ParameterError:
            counts["refused"] += 1
            continue
        finally:
            seconds.append(time.process_time() - start)
        counts["compiled"] += 1
        counts["exact"] += asked.exact
        for test in content.get("tests", ()):
            found = accepts(asked, columns, test["data"])
            counts["valid" if test["valid"] else "invalid"] += 1
            counts["valid, accepted" if test["valid"] else "invalid, accepted"] += found
            if found and not test["valid"]:
                wrong.append(file.name)
    with capsys.disabled():
        times = ", ".join(f"p{percent} {1e3 * percentile(seconds, percent):.2f} ms" for percent in (50, 99, 100))
        print(f"\n{dict(counts)}; compiled in {times} of the processor")  # noqa: T201
    assert wrong == []
    assert counts["compiled"] > 0.7 * len(files)
