"""Fields of other servers that promise something about a text: refused where nothing here keeps the promise.

An unknown field that only tunes a text is ignored, and named in a header. One that promises something, such as that the
text is JSON or has no bad words, is done or refused: a client that relies on it must not get free text with status 200.
"""

from collections.abc import Mapping
from typing import Any

from model.errors import ParameterError

PATTERN = "here a text cannot be made to match by it; docs/constraints.md has the fields for that"
NO_TOOLS = "this server continues text and calls no tools"
NO_BANS = "this server does not ban or force tokens by it; logit_bias of -100 keeps a character out"
NO_STOP = "this server does not stop by it; use stop"
NO_REPORT = "this server does not report it; logprobs, with echo also for the prompt, reports how likely tokens are"
NO_INPUT = "this server reads only the prompt, and all of it"
NO_MEDIA = "this server reads and writes text alone"
NO_LENGTH = "a text's length is max_tokens in /v1/completions and max_new_tokens in /generate"
NO_SALT = "here only the keys keep prompts apart; /v1/completions has the field"
NO_STATE = "here no state is taken or returned; completions, `parameters` of /generate and /v1/score with JSON do"
NO_MEMORY = "only /v1/score reads with the online memory"
NO_SEARCH = "this server looks nothing up; write what is to be read into the prompt or the messages"
NO_TEMPLATE = "a chat is written as the chat format of the checkpoint or of --chat-format says"
NO_ECHO = "this route does not repeat what it was given; /v1/completions does"
NO_SUFFIX = "this model only continues text and fills no gaps"
NO_PROMPT = "what this route reads has another name, as /docs says"
ONE_MODEL = "this server has whole models and no adapters; `model` names one"

# A name is taken out once its promise is kept; a field of a schema is never looked up here.
PROMISES: dict[str, str] = {
    **dict.fromkeys(("response_format", "structured_outputs", "structural_tag", "format"), PATTERN),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar"), PATTERN),
    **dict.fromkeys(("grammar", "json_schema", "json_object", "regex", "choice", "ebnf"), PATTERN),
    **dict.fromkeys(("tools", "tool_choice", "functions", "function_call"), NO_TOOLS),
    **dict.fromkeys(("bad_words", "bad_words_ids", "banned_strings", "allowed_token_ids", "force_words_ids"), NO_BANS),
    **dict.fromkeys(("stop_token_ids", "stop_sequences", "stop_regex", "eos_token_id"), NO_STOP),
    **dict.fromkeys(("prompt_logprobs", "top_logprobs", "return_token_ids", "return_tokens_as_token_ids"), NO_REPORT),
    **dict.fromkeys(("messages", "prompt_embeds", "input_embeds", "image_data", "truncate_prompt_tokens"), NO_INPUT),
    **dict.fromkeys(("max_tokens", "max_new_tokens", "max_completion_tokens", "max_output_tokens"), NO_LENGTH),
    **dict.fromkeys(("n_predict", "num_predict", "max_length"), NO_LENGTH),
    **dict.fromkeys(("audio", "modalities"), NO_MEDIA),
    "cache_salt": NO_SALT,
    **dict.fromkeys(("state", "return_state"), NO_STATE),
    "memory": NO_MEMORY,
    **dict.fromkeys(("documents", "web_search_options"), NO_SEARCH),
    **dict.fromkeys(("chat_template", "conversation_template"), NO_TEMPLATE),
    "echo": NO_ECHO,
    "suffix": NO_SUFFIX,
    "prompt": NO_PROMPT,
    **dict.fromkeys(("lora", "lora_request", "lora_path", "adapter_id"), ONE_MODEL),
    **dict.fromkeys(("use_beam_search", "logits_processors"), "this server does not support it"),
}

# Values that promise nothing, beside those that are empty.
OFF: dict[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    **dict.fromkeys(("grammar", "format", "regex", "ebnf"), ("",)),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "truncate_prompt_tokens": (-1,),
}
NOTHING: tuple[Any, ...] = (None, False, "", [], {})
MEANT: tuple[Any, ...] = (None, False)
"""Of the fields where an empty value is no less a promise."""
# `{}` is the schema of any JSON value, and asks for a search with all its defaults.
EMPTY_IS_MEANT = {name for name, why in PROMISES.items() if why == PATTERN} | {"web_search_options"}


def check_promises(fields: Mapping[str, Any] | None, within: str = "") -> None:
    """Raise ParameterError for the first unknown field that promises what is not done.

    within: what stands before the names in the request, such as "parameters.".
    """
    for name in PROMISES.keys() & (fields or {}).keys():
        value = (fields or {})[name]
        nothing = (*(MEANT if name in EMPTY_IS_MEANT else NOTHING), *OFF.get(name, ()))
        if any(value is off or (type(value) is type(off) and value == off) for off in nothing):
            continue
        raise ParameterError(within + name, f"{within}{name} is not supported: {PROMISES[name]}; leave it out.")
