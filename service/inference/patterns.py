"""Texts that must match something and go on after a state: which pattern it was, and whether it can be followed on."""

import hashlib

from model.constraints.constraint import Constraint
from model.decoding.state import MOST_WRITTEN
from model.errors import ParameterError
from model.sampling.transitions import BEGINNING, AnyConstraint
from service.engine.text_request import TextRequest

DIGEST_BYTES = 16


def pattern_digest(constraint: Constraint, compiled: AnyConstraint) -> bytes:
    """Of what a text must match: of the words it was asked in, and of its table, whose states a state names."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in (constraint.kind, str(constraint.closed), constraint.source):
        digest.update(len(part.encode("utf-8", "surrogatepass")).to_bytes(8, "little"))
        digest.update(part.encode("utf-8", "surrogatepass"))
    digest.update(compiled.to_bytes())
    return digest.digest()


def check_pattern(request: TextRequest, compiled: AnyConstraint, pattern: bytes) -> None:
    """Raise ParameterError where a text cannot go on by a pattern, or be completed in `max_tokens`.

    pattern: its digest, if a state is asked for or given.
    """
    state = request.beginning if not all(map(len, request.prompts)) else None
    walked = state is not None and state.pattern == pattern
    if state is not None and state.pattern and not walked:
        message = (
            "The state is in the middle of a text that must match something else; send that pattern again, or a "
            "prompt, after which a new text begins."
        )
        raise ParameterError("state", message)
    if not request.return_state:
        compiled.check(request.max_tokens, state.walk if state is not None and walked else BEGINNING)
    elif not compiled.to_bytes():
        written = request.max_tokens + (len(state.written) if state is not None and walked else 0)
        if written > MOST_WRITTEN:
            message = (
                f"The text may have {written:,} characters then; a pattern of this kind is part of a state for at most "
                f"{MOST_WRITTEN:,}: ask for fewer max_tokens, or leave out return_state."
            )
            raise ParameterError("max_tokens", message)
