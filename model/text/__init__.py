"""Text and ids: tokenizer, prompts, incremental decoding, stop strings."""
