"""What clients saw of a server, and whether its counters say the same."""

from collections import Counter
from dataclasses import dataclass, field

from tests.benchmarks.figures import Figure
from tests.load.process import Sample, total

ENDED = ("stop", "length")
EITHER = (200, 499)  # of a request that was given up: whether its answer had begun, only the server knows


@dataclass
class Tally:
    """What the clients saw.

    answers: requests answered, by status. unread: those refused before they were parsed. given_up: requests that were
    sent as far as their headers and not answered whole. unseen: those of them whose client left without having read
    anything, maybe before the server had parsed them, which it then does not. texts, ends, tokens: of answers, how
    many texts they had, why those ended, and how many characters were written as they say.
    """

    answers: Counter[int] = field(default_factory=Counter)
    unread: Counter[int] = field(default_factory=Counter)
    given_up: int = 0
    unseen: int = 0
    texts: int = 0
    texts_given_up: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    surprises: list[str] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Requests that were malformed or not allowed."""
        return sum(self.unread.values()) + sum(count for status, count in self.answers.items() if status >= 400)


def agree(what: str, counted: float, seen: float) -> Figure:
    """A figure that holds where both are the same."""
    return Figure(f"{what}: {counted:,.0f} counted, {seen:,.0f} seen", abs(counted - seen), "apart", 0, "most")


def left_over(found: list[Sample]) -> float:
    """Texts that run, wait, or were taken and have not ended."""
    ended = total(found, "unroll_request_finished_total")
    here = total(found, "unroll_requests_running") + total(found, "unroll_requests_waiting")
    return here + abs(total(found, "unroll_texts_submitted_total") - ended)


def agreement(tally: Tally, base: list[Sample], found: list[Sample]) -> list[Figure]:
    """What the server has counted since `base` against what the clients saw."""

    def counted(name: str, **labels: str) -> float:
        return total(found, f"unroll_{name}_total", **labels) - total(base, f"unroll_{name}_total", **labels)

    counted_codes = {int(labels["code"]) for name, labels, _ in found if name == "unroll_requests_total"}
    codes = sorted((counted_codes | set(tally.answers)) - set(EITHER))
    # What is asked to know the counters is no part of the load.
    either = sum(counted("requests", code=str(code)) for code in EITHER) - counted("requests", route="/metrics")
    return [
        _between("answers 200 and requests given up", either, tally.answers[200] + tally.given_up, tally.unseen),
        *(agree(f"answers {code}", counted("requests", code=str(code)), tally.answers[code]) for code in codes),
        *_refusals(
            tally, counted("requests_rejected", reason="malformed"), counted("requests_rejected", reason="too_large")
        ),
        *_texts(
            tally, {one: counted("request_finished", reason=one) for one in (*ENDED, "abort", "deadline", "error")}
        ),
        agree("texts taken and texts ended", counted("texts_submitted"), counted("request_finished")),
        _at_least("characters drawn", counted("generation_tokens"), tally.tokens),
        _at_least("characters of prompts", counted("prompt_tokens"), tally.prompt_tokens),
    ]


def _refusals(tally: Tally, malformed: float, too_large: float) -> list[Figure]:
    return [
        agree("refusals of what is no HTTP", malformed, tally.unread[400]),
        agree("refusals of what is too large", too_large, tally.unread[431] + tally.answers[413]),
    ]


def _texts(tally: Tally, finished: dict[str, float]) -> list[Figure]:
    """Every text that was answered has ended, and of those given up some had, too."""
    whole = sum(finished[one] for one in ENDED)
    most = tally.texts + tally.texts_given_up
    return [
        _at_least("texts that ended as asked for", whole, tally.texts),
        Figure(
            "texts that ended, more than were ever asked for", max(0, sum(finished.values()) - most), "texts", 0, "most"
        ),
        Figure(
            "texts that ended by an error or a deadline", finished["error"] + finished["deadline"], "texts", 0, "most"
        ),
    ]


def _between(what: str, counted: float, most: float, fewer: float) -> Figure:
    """A figure that holds where as much is counted as was seen, or up to `fewer` less."""
    apart = max(0.0, counted - most, most - fewer - counted)
    return Figure(f"{what}: {counted:,.0f} counted, {most - fewer:,.0f} to {most:,.0f} seen", apart, "apart", 0, "most")


def _at_least(what: str, counted: float, seen: float) -> Figure:
    return Figure(f"{what}: {counted:,.0f} counted, at least {seen:,.0f} seen", counted - seen, "more", 0, "least")
