"""The process that compiles constraints: what hangs, grows or crashes over a pattern is not the server.

It reads messages from standard input and answers each on standard output; see messages.py. The first has the characters
and ids of the model and the limits, each other one a constraint. The answers are JSON, too: an `error` with the
`parameter` it is about, or the shape of a `table`, whose numbers follow as one more message.
"""

import json
import os
import resource
import sys
from typing import Any

import numpy as np

from model.constraints.compiling import compiled
from model.constraints.constraint import Constraint, Limits
from model.constraints.vocabulary import Vocabulary
from model.errors import ParameterError
from model.text.tokenizer import Tokenizer
from service.inference.messages import message, read_message

NICENESS = 15  # text is generated first: the threads for it are at 10
GROWTH_KILOBYTES = 128 << 10  # after which the process ends, and the next constraint starts another


def answer_to(asked: dict[str, Any], vocabulary: Vocabulary, limits: Limits) -> list[bytes]:
    """The messages that answer a constraint."""
    try:
        transitions = compiled(Constraint(**asked), vocabulary, limits).transitions
    except ParameterError as error:
        return [json.dumps({"parameter": error.parameter, "error": str(error)}).encode()]
    if transitions is None:
        return [json.dumps({"table": None}).encode()]
    return [json.dumps({"table": transitions.shape}).encode(), transitions.to_bytes()]


def peak_kilobytes() -> int:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _least(size: int, own: int) -> int:
    """A size within the limit this process was started with."""
    return size if own == resource.RLIM_INFINITY else min(size, own)


def main() -> None:
    """Answer messages until there are no more."""
    beginning = read_message(sys.stdin.buffer)
    if beginning is None:
        return
    given = json.loads(beginning)
    os.nice(NICENESS)
    most_bytes = _least(given["memory"], resource.getrlimit(resource.RLIMIT_AS)[1])
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    vocabulary = Vocabulary(Tokenizer(given["characters"]), np.array(given["ids"], np.int64))
    limits = Limits(**given["limits"])
    most = peak_kilobytes() + GROWTH_KILOBYTES
    while peak_kilobytes() < most and (asked := read_message(sys.stdin.buffer)) is not None:
        for part in answer_to(json.loads(asked), vocabulary, limits):
            sys.stdout.buffer.write(message(part))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
