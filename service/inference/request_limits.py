"""The limits on the size of one request."""

from model.errors import ParameterError
from service.engine.text_request import TextRequest
from service.settings import Settings


def check_limits(request: TextRequest, settings: Settings, echoes: int = 1) -> None:
    """Raise ParameterError if a request asks for more than the settings allow.

    echoes: how often the answer repeats each prompt.
    """
    longest = max(map(len, request.prompts))
    if longest > settings.max_prompt_characters:
        message = f"The prompt has {longest:,} characters; send at most {settings.max_prompt_characters:,}."
        raise ParameterError("prompt", message)
    work = request.work(echoes)
    if work > settings.max_work:
        message = (
            f"This may take {work:,} characters, counting prompts, texts and the likeliest ones reported for each; "
            f"this server's max_work is {settings.max_work:,}: ask for fewer prompts, texts, max_tokens or logprobs."
        )
        raise ParameterError("max_tokens" if len(request.prompts) == 1 else "prompt", message)
