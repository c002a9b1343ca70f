"""The language model, on disk and in motion: knows nothing of HTTP, of training, or of who calls it."""
