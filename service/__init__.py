"""Serves checkpoints over HTTP; imports the model, never the training."""
