"""What a cluster can be asked for is what one machine can: an option of one must not be forgotten in the other."""

import inspect
from dataclasses import fields

from model.bulk.score import LineScorer
from model.cluster.line_blocks import LineSettings

OF_ONE_MACHINE = {"remembers", "threads"}


def test_lines_have_the_same_settings() -> None:
    options = {
        name: one.default
        for name, one in inspect.signature(LineScorer).parameters.items()
        if one.kind is one.KEYWORD_ONLY and name not in OF_ONE_MACHINE
    }
    assert {one.name: one.default for one in fields(LineSettings)} == options
