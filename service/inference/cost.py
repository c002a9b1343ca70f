"""What a request will hold in memory, from counts alone, before anything is made of it."""

from collections.abc import Sequence

from model.errors import ParameterError
from model.online_memory.memory import memory_bytes
from service.engine.decode_batch import MOST_PARTS
from service.engine.prefix_cache import SHORT
from service.engine.text_request import TextRequest
from service.inference.served_model import ServedModel
from service.settings import Settings

# Bytes, measured with tracemalloc and rounded up (tests/service/inference/test_cost.py holds them to it).
ID_BYTES = 10  # an id of a prompt while it is prepared, in two widths
DECODED_BYTES = 100  # an id of a prompt of ids while it is decoded
ID_KEPT_BYTES = 4  # the same once it is prepared
KEY_BYTES = 16  # of the first ids, each of which ends a prefix that may be looked up
WIDEST = 4  # bytes of a character: of memory, and ids at most
GROUP_BYTES = 6_000  # a prompt without its ids
TEXT_BYTES = 3_000  # a text without its characters
STOP_BYTES = 120  # a stop string in each text, beside its table
TABLE_BYTES = 8  # a character of a stop string, in the request's table
SCORE_BYTES = 4  # a reported number
STEP_BYTES = 1_200  # arrays of one step of a beam search, without their numbers
CANDIDATE_BYTES = 50  # a continuation among which a step of a beam search chooses
STATE_COPIES = 4  # of a row's state at most: before a call, after it, as bytes and as text
STATE_BYTES = 4_000  # of it besides its numbers
ANSWER_BYTES = 400  # of what stands around the texts, and around each
CHARACTER_BYTES = 6  # of an answer in JSON, for a character: one of control is \u0000
ENTRY_BYTES = 80  # the same for a character with its log-probability, and for one of the likeliest beside it
CALL_BYTES = 500  # arrays of what a reporting text drew in one call, until they are joined


def check_length(characters: int, settings: Settings) -> None:
    """Raise ParameterError for a prompt of more characters or ids than the settings allow."""
    if characters > settings.max_prompt_characters:
        message = f"The prompt has {characters:,} characters; send at most {settings.max_prompt_characters:,}."
        raise ParameterError("prompt", message)


def check_limits(request: TextRequest, settings: Settings, echoes: int = 0) -> None:
    """Raise ParameterError if a request asks for more than the settings allow.

    echoes: how often the answer repeats each prompt.
    """
    check_length(max(map(len, request.prompts)), settings)
    work = request.work(max(1, echoes))
    if work > settings.max_work:
        message = (
            f"This may take {work:,} characters, counting prompts, texts and the likeliest ones reported for each; "
            f"this server's max_work is {settings.max_work:,}: ask for fewer prompts, texts, max_tokens or logprobs."
        )
        raise ParameterError("max_tokens" if len(request.prompts) == 1 else "prompt", message)
    if request.interval is None and (size := answer_bytes(request, echoes)) > settings.max_answer_bytes:
        remedy = "ask for less" if request.beams or request.drawn > request.n else "stream it, or ask for less"
        message = (
            f"The whole answer may take {size:,} bytes; this server's max_answer_bytes is "
            f"{settings.max_answer_bytes:,}: {remedy}."
        )
        raise ParameterError("stream", message)


def answer_bytes(request: TextRequest, echoes: int = 0) -> int:
    """Most bytes of an answer that is not streamed, which repeats each prompt so many times; without states."""
    prompts, drawn = sum(map(_most_ids, request.prompts)), request.texts * request.max_tokens
    entries = 0 if request.logprobs is None else drawn * (1 + request.logprobs)
    if request.prompt_logprobs is not None:
        entries += prompts * max(1, echoes) * (1 + request.prompt_logprobs)
    characters = prompts * echoes + drawn
    return ANSWER_BYTES * (1 + request.texts) + characters * CHARACTER_BYTES + entries * ENTRY_BYTES


def request_bytes(request: TextRequest, model: ServedModel) -> int:
    """Most bytes of memory that a request will hold at once, beside its body."""
    return sum(
        (
            sum(map(preparing_bytes, request.prompts)),
            sum(min(_most_ids(prompt), SHORT) for prompt in request.prompts) * KEY_BYTES,
            len(request.prompts) * GROUP_BYTES,
            _openings(request, model),
            _tables(request, model),
            _scores(request),
            _memories(request),
            request.rows * (TEXT_BYTES + STOP_BYTES * len(request.stop)),
            _drawn(request, model),
            _searched(request, model),
            _states(request, model),
        )
    )


def _states(request: TextRequest, model: ServedModel) -> int:
    """What is kept of rows for their states, and the states as they are sent."""
    if request.beginning is None and not request.return_state:
        return 0
    layout, columns = model.decoder.config.state_layout(), len(model.decoder.ids)
    one = STATE_COPIES * 4 * (layout.floats + columns)
    prompts = 0 if request.beginning is None else len(request.prompts) * columns
    return prompts + (request.texts * (one + STATE_BYTES) if request.return_state else 0)


def _openings(request: TextRequest, model: ServedModel) -> int:
    """What is read before empty prompts: the checkpoint's context, which is scored with the prompt."""
    top = request.prompt_logprobs
    scored = 0 if top is None or request.on_scores is not None else SCORE_BYTES * (3 + 2 * top)
    empty = sum(not len(prompt) for prompt in request.prompts)
    return empty * len(model.tokenizer.opening(empty=True)) * (ID_BYTES + KEY_BYTES + scored) if empty else 0


def kept_bytes(request: TextRequest, model: ServedModel, ids: int) -> int:
    """The same once the prompts are encoded, as so many ids."""
    decoded = sum(len(prompt) * WIDEST for prompt in request.prompts if not isinstance(prompt, str))
    return request_bytes(request, model) - sum(map(preparing_bytes, request.prompts)) + ids * ID_KEPT_BYTES + decoded


def preparing_bytes(prompt: str | Sequence[int]) -> int:
    """Bytes while a prompt is prepared: one of ids becomes text, too."""
    return _most_ids(prompt) * ID_BYTES + (0 if isinstance(prompt, str) else len(prompt) * DECODED_BYTES)


def _most_ids(prompt: str | Sequence[int]) -> int:
    """Ids a prompt may have: a character of ASCII is one, any other at most four."""
    if isinstance(prompt, str):
        return len(prompt) * (1 if prompt.isascii() else WIDEST)
    return len(prompt)


def _tables(request: TextRequest, model: ServedModel) -> int:
    """What is the same for all texts, and what penalties count for each prompt and each text."""
    columns = len(model.decoder.ids) if request.parameters.penalises else 0
    tables = model.tokenizer.size + TABLE_BYTES * sum(map(len, request.stop)) if request.stop else 0
    return tables + columns * (4 + len(request.prompts) + 4 * request.texts)


def _scores(request: TextRequest) -> int:
    """What is kept of the prompts' scores."""
    if request.prompt_logprobs is None or request.on_scores is not None:
        return 0
    return score_bytes(request.prompts, request.prompt_logprobs)


def _memories(request: TextRequest) -> int:
    """What the online memory of each prompt takes while it is read."""
    return 0 if request.memory is None else sum(memory_bytes(_most_ids(prompt) + 8) for prompt in request.prompts)


def _searched(request: TextRequest, model: ServedModel) -> int:
    """What beam searches keep of each step until their end, and what one step takes."""
    if request.beams is None:
        return 0
    width, columns = request.beams.width, len(model.decoder.ids)
    reported = min(request.logprobs or 0, columns)
    kept = request.max_tokens * (STEP_BYTES + width * SCORE_BYTES * (3 + 2 * reported))
    candidates = width * min(columns, width + len(request.stop) + 1 + reported)
    return len(request.prompts) * (kept + candidates * CANDIDATE_BYTES)


def score_bytes(prompts: Sequence[str | Sequence[int]], top: int | None) -> int:
    """Of the scores of all ids of some prompts, with the `top` likeliest ids beside each; None = without scores."""
    return 0 if top is None else sum(map(_most_ids, prompts)) * SCORE_BYTES * (3 + 2 * top)


def text_bytes(texts: Sequence[str]) -> int:
    """Of copies of some texts."""
    return sum(len(text) * (1 if text.isascii() else WIDEST) for text in texts)


def _drawn(request: TextRequest, model: ServedModel) -> int:
    """What is drawn until it is handed over: whole texts; of streams what is charged as it waits (Output)."""
    top = request.drawn_logprobs
    reported = 0 if top is None else SCORE_BYTES * (2 + 2 * min(top, len(model.decoder.ids)))
    calls = 0 if top is None else CALL_BYTES + reported
    waiting = min(request.max_tokens, MOST_PARTS) * calls
    whole = 0 if request.interval is not None else request.max_tokens * (WIDEST + 2 * reported)
    return request.texts * (whole + waiting)
