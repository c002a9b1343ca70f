"""Compares cells on one corpus, and two checkpoints on one text: figures for every claim about them."""
