"""A chat in OpenAI's dialect, /v1/chat/completions: its messages become one prompt, its answers are completions."""
