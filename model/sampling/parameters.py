"""The sampling parameters of a text and their ranges."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real

from model.errors import ParameterError

LARGEST_BIAS = 100
GREEDY_BELOW = 1e-4  # a temperature under this would overflow the quotient; it means argmax


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParameters:
    """How the next character is drawn; the defaults draw from the model's own distribution.

    temperature: divides the logits; 0 takes the likeliest character always.
    top_k: draw among the k likeliest; 0 = all (Fan et al. 2018).
    top_p: draw among the fewest characters that hold this share of the probability; 1 = all (Holtzman et al. 2020).
    min_p: drop characters less likely than this share of the likeliest; 0 = none (Nguyen et al. 2024).
    typical_p: draw among the fewest characters that hold this share of the probability, those first whose surprise
        is nearest to the expected one; of what the other filters leave; 1 = all (Meister et al. 2023).
    repetition_penalty: divides positive and multiplies negative logits of characters in prompt or text;
        1 = none (Keskar et al. 2019).
    presence_penalty: subtracted from the logit of a character the text has; 0 = none.
    frequency_penalty: subtracted once per occurrence in the text; 0 = none.
    logit_bias: added to the logits of ids, by id, before the penalties; -100 bans one in practice. Ids that are
        never drawn may be named, too.
    seed: any whole number of 64 bits; the same seed draws the same text.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if not _is_number(value) or not least <= value <= most:  # also refuses NaN
                raise ParameterError(name, f"{name} is {value!r}; choose a number from {least:g} to {most:g}.")
        if not _is_whole(self.top_k):
            raise ParameterError("top_k", f"top_k is {self.top_k!r}; choose a whole number.")
        if not _is_mapping(self.logit_bias):
            raise ParameterError(
                "logit_bias", "logit_bias gives a number to each id; give a mapping, such as {300: -5}."
            )
        for token, bias in self.logit_bias.items():
            if not _is_whole(token) or not -(2**63) <= token < 2**63:
                raise ParameterError("logit_bias", f"logit_bias names {token!r}; name ids, which are whole numbers.")
            if not _is_number(bias) or not -LARGEST_BIAS <= bias <= LARGEST_BIAS:
                message = (
                    f"logit_bias of id {token} is {bias!r}; choose a number from -{LARGEST_BIAS} to {LARGEST_BIAS}."
                )
                raise ParameterError("logit_bias", message)
        for name in ("top_p", "typical_p"):
            if getattr(self, name) == 0:
                raise ParameterError(name, f"{name} is 0; choose a share above 0, up to 1.")
        if not _is_whole(self.seed):
            raise ParameterError("seed", f"seed is {self.seed!r}; choose a whole number.")
        if not -(2**63) <= self.seed < 2**64:
            raise ParameterError("seed", "seed does not fit in 64 bits; choose a smaller whole number.")

    @property
    def penalises(self) -> bool:
        """Whether logits are changed before the draw, by penalties or by a bias."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return penalties != (1.0, 0.0, 0.0) or bool(self.logit_bias)

    @property
    def filters(self) -> bool:
        """Whether some characters are left out of the draw."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0 or self.typical_p < 1


RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_k": (0, 2**31 - 1),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "repetition_penalty": (0.01, 10),
    "presence_penalty": (-100, 100),
    "frequency_penalty": (-100, 100),
}


def _is_number(value: object) -> bool:
    return type(value) is float or isinstance(value, Real)  # the common type first: the other check takes a while


def _is_whole(value: object) -> bool:
    return type(value) is int or isinstance(value, Integral)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)
