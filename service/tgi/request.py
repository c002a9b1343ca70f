"""Translates the fields of a text-generation-inference request into a TextRequest."""

from collections.abc import Mapping
from typing import Any

from model.decoding.state import RowState
from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from model.text.tokenizer import Tokenizer
from service.api.constraint_fields import constraint_of
from service.api.request_fields import seed_of
from service.engine.text_request import TextRequest
from service.tgi.schemas import Parameters


def draws(given: Parameters) -> bool:
    """Whether characters are drawn: with `do_sample`, and with any parameter that would have no effect otherwise."""
    narrowed = bool(given.top_k) or (given.typical_p or 1) < 1
    return given.do_sample or narrowed or given.temperature is not None or given.top_p is not None


def sampling(given: Parameters, seed: int) -> SamplingParameters:
    """How the characters are drawn. seed: where there is none."""
    temperature = given.temperature or 1.0
    return SamplingParameters(
        temperature=temperature if draws(given) else 0.0,
        top_k=given.top_k or 0,
        top_p=given.top_p or 1.0,
        typical_p=given.typical_p or 1.0,
        repetition_penalty=given.repetition_penalty,
        frequency_penalty=given.frequency_penalty,
        seed=seed if given.seed is None else given.seed,
    )


def text_request(
    tokenizer: Tokenizer,
    inputs: str,
    given: Parameters,
    *,
    beginning: RowState | None,
    interval: float | None,
    origin: Mapping[str, Any],
) -> TextRequest:
    """The TextRequest for these fields; `interval` is None if the text is not streamed.

    beginning: the state that it goes on from. origin: the fields that `origin_of` makes.
    """
    reported = interval is not None or given.details or given.decoder_input_details or given.best_of > 1
    return TextRequest(
        prompts=[_labelled(tokenizer, truncated(tokenizer, inputs, given.truncate), given.label)],
        parameters=sampling(given, seed_of(beginning, [inputs])),
        max_tokens=given.max_new_tokens,
        n=given.best_of,
        stop=given.stop,
        include_stop=True,
        logprobs=given.top_n_tokens if reported else None,
        prompt_logprobs=0 if given.decoder_input_details else None,
        constraint=constraint_of({"grammar": given.grammar}, "parameters."),
        beginning=beginning,
        return_state=given.return_state,
        interval=interval,
        **origin,
    )


def truncated(tokenizer: Tokenizer, inputs: str, most: int | None) -> str | list[int]:
    """The inputs, or their last `most` ids if they have more."""
    if most is None:
        return inputs
    ids = tokenizer.encode(inputs[-most:])  # each character is at least one id
    return inputs if len(ids) <= most and len(inputs) <= most else ids[-most:].tolist()


def _labelled(tokenizer: Tokenizer, inputs: str | list[int], label: str | None) -> str | list[int]:
    """The inputs after the label that was asked for."""
    try:
        before = tokenizer.frame.labelled(label)
    except ParameterError as error:
        raise ParameterError("label", f"parameters.label: {error}") from None
    return before + inputs if isinstance(inputs, str) else [*tokenizer.encode(before).tolist(), *inputs]
