"""The fields of OpenAI's dialect that ask for a beam search, as vLLM names them."""

from pydantic import Field

from model.decoding.beams import LARGEST_PENALTY, BeamOptions, EarlyStopping
from service.openai.text_fields import TextFields

OF_A_SEARCH = {"length_penalty", "early_stopping"}  # fields that mean nothing without one


class Searched(TextFields):
    """Whether the likeliest texts are searched for, and how."""

    use_beam_search: bool = Field(
        default=False,
        description="Find the `n` likeliest texts by a search with `best_of` beams, the best first, in the place of "
        "draws. Not with `stream`, nor with what a text must match, nor with parameters of draws but `seed` and a "
        "`temperature` of 0 or 1.",
    )
    length_penalty: float = Field(
        default=1.0,
        ge=-LARGEST_PENALTY,
        le=LARGEST_PENALTY,
        description="Of a beam search: a text's score is ln of its probability divided by its length in ids to this "
        "power. 0 ranks by the whole text, 1 by the mean of its characters.",
    )
    early_stopping: EarlyStopping = Field(
        default=False,
        description="When a beam search ends that has as many finished texts as beams. true: at once. false: when the "
        "likeliest unfinished text ranks no higher as it is. never: when none can ever rank higher.",
    )

    def search_of(self, width: int) -> BeamOptions | None:
        """The beam search that is asked for, with that number of beams."""
        if not self.use_beam_search:
            return None
        return BeamOptions(width=width, length_penalty=self.length_penalty, early_stopping=self.early_stopping)

    @property
    def idle(self) -> list[str]:
        """The names of given fields that change nothing of this request."""
        return [] if self.use_beam_search else sorted(OF_A_SEARCH & self.model_fields_set)
