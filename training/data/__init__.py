"""Corpus to windows of ids: sources, decoding, memory-mapped ids, split, batches."""
