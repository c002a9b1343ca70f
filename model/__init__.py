"""The language model, as a checkpoint and at run time; independent of HTTP, of training, and of its callers."""
