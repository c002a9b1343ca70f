"""The training loop and its state between two steps."""
