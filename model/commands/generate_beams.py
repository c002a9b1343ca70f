"""`unroll generate --beams`: the options of a beam search, and what it finds."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from model.command_line.options import option
from model.errors import ParameterError

BEAMS = "Beam search"  # a group of `unroll generate --help`
ORDERS_ALIKE = (0.0, 1.0)  # temperatures that do not change which text is the likeliest


@dataclass(frozen=True, kw_only=True)
class BeamSearchOptions:
    """Whether the likeliest texts are searched for in the place of draws, and how."""

    beams: int = option(
        0, "Search for the likeliest text with this many beams; draw nothing.", BEAMS, shown="none", typer={"min": 0}
    )
    length_penalty: float = option(
        1.0, "A text's score is ln p divided by its length to this power; 0 ranks by the whole text.", BEAMS
    )
    early_stopping: Literal["true", "false", "never"] = option(
        "false",
        "End a search that has as many whole texts as beams: at once, once the best unfinished one ranks no higher, or "
        "once none can.",
        BEAMS,
    )

    def check(self, sampling: Any, match: Any, count: int | None) -> None:
        """Raise ParameterError where an option is given that goes without a search, or not with one."""
        if not self.beams:
            given = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
            if given:
                flag = given[0].replace("_", "-")
                raise ParameterError("beams", f"--{flag} is of a beam search; say with how many, with --beams.")
            return
        wrong = [
            one.name for one in fields(sampling) if not _harmless(one.name, getattr(sampling, one.name), one.default)
        ]
        wrong += [one.name for one in fields(match) if getattr(match, one.name) not in (None, ())]
        wrong += ["count"] if count is not None else []
        if wrong:
            flag = wrong[0].replace("_", "-")
            raise ParameterError(
                wrong[0], f"A beam search draws nothing and has no --{flag}; leave out that or --beams."
            )

    def find(
        self, decoder: Any, tokenizer: Any, prompt: str, settings: Mapping[str, Any], n: int
    ) -> tuple[list[dict[str, Any]], int]:
        """The texts that are found, the likeliest first, each as the JSON answer has it; and how many ids they have."""
        from model.decoding.beams import BeamOptions
        from model.generate import search

        early = {"true": True, "false": False}.get(self.early_stopping, "never")
        asked = BeamOptions(width=self.beams, length_penalty=self.length_penalty, early_stopping=early)  # type: ignore[arg-type]
        limits = {"max_tokens": settings["max_tokens"], "stop": settings["stop"]}
        found = search(decoder, tokenizer, prompt, asked, n=n, **limits)
        choices = [
            {
                "index": index,
                "text": one.text,
                "finish_reason": one.finish_reason,
                "logprob": one.logprob,
                "score": one.score,
            }
            for index, one in enumerate(found)
        ]
        return choices, sum(one.tokens for one in found)


def _harmless(name: str, value: Any, default: Any) -> bool:
    """Whether an option of draws changes nothing of a search."""
    return value == default or name == "seed" or (name == "temperature" and value in ORDERS_ALIKE)
