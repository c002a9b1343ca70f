"""Builds a checkpoint from a corpus; imports the model, never the service."""
