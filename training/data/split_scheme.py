"""How a corpus is cut into train, validation and test parts, as a name: percentages, or nanoGPT's cut."""

import re

from model.errors import ParameterError

DEFAULT = "90/5/5"
NANOGPT = "nanogpt"
IN_WORDS = f"{NANOGPT} (first 90 %, then twice 5 %) or percentages to train/validate/test on."


def shares_of(scheme: str) -> tuple[float, float]:
    """Where validation and test begin, as shares of the whole. Raises ParameterError for an unknown scheme."""
    if scheme == NANOGPT:
        return 0.9, 0.95
    match = re.fullmatch(r"(\d+)/(\d+)/(\d+)", scheme)
    parts = [int(part) for part in match.groups()] if match else []
    if sum(parts) != 100 or 0 in parts:
        raise ParameterError("split", f"--split is {scheme!r}; choose nanogpt, or three percentages such as 90/5/5.")
    return parts[0] / 100, (parts[0] + parts[1]) / 100
