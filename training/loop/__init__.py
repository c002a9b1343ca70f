"""The training loop and all it keeps between two steps."""
