"""Serves a checkpoint over HTTP; imports the model, never the training."""
