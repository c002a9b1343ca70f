"""Fields of other servers that promise something about a text: refused if this server cannot keep the promise.

An unknown field that only tunes a text is ignored, and named in a header. A field that promises something, such as
JSON or no bad words, is obeyed or refused: a client that relies on it must not get free text with status 200.
"""

from collections.abc import Mapping
from typing import Any

from model.errors import ParameterError

PATTERN = "this route cannot constrain a text with it; docs/constraints.md has the fields for that"
NO_TOOLS = "this server continues text and calls no tools"
NO_BANS = "this server does not ban or force tokens with it; a logit_bias of -100 bans a character"
NO_STOP = "this server does not stop a text at it; use stop"
NO_REPORT = "this server does not report it; logprobs reports how likely tokens are, with echo also the prompt's"
NO_INPUT = "this server reads only the prompt, and always all of it"
NO_MEDIA = "this server reads and writes only text"
NO_LENGTH = "the length of a text is max_tokens in /v1/completions and max_new_tokens in /generate"
NO_SALT = "this route separates prompts only by API key; /v1/completions has the field"
NO_STATE = "this route has no states; completions, `parameters` of /generate and /v1/score with JSON have"
NO_MEMORY = "only /v1/score uses the online memory"
NO_SEARCH = "this server does not search; write the content into the prompt or the messages"
NO_TEMPLATE = "the chat format comes from the checkpoint or from --chat-format"
NO_ECHO = "this route does not repeat the prompt; /v1/completions does"
NO_SUFFIX = "this model only continues text and does not fill gaps"
NO_PROMPT = "this route's input has another name; see /docs"
ONE_MODEL = "this server has no adapters, only whole models; `model` names one"

# A name is removed once the server keeps its promise; a field of a schema is never looked up here.
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

# Values that promise nothing, in addition to empty ones.
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
"""Fields in which an empty value is a promise too."""
# `{}` is the schema of any JSON value, and requests a search with all defaults.
EMPTY_IS_MEANT = {name for name, why in PROMISES.items() if why == PATTERN} | {"web_search_options"}


def check_promises(fields: Mapping[str, Any] | None, within: str = "") -> None:
    """Raise ParameterError for the first unknown field whose promise cannot be kept.

    within: the prefix of the names in the request, such as "parameters.".
    """
    for name in PROMISES.keys() & (fields or {}).keys():
        value = (fields or {})[name]
        nothing = (*(MEANT if name in EMPTY_IS_MEANT else NOTHING), *OFF.get(name, ()))
        if any(value is off or (type(value) is type(off) and value == off) for off in nothing):
            continue
        raise ParameterError(within + name, f"{within}{name} is not supported: {PROMISES[name]}; leave it out.")
