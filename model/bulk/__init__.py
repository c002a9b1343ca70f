"""Bulk work on all cores: generates lists of items, and scores lines of any number of files."""
