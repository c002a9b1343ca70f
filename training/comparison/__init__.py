"""Cells held against each other on one corpus, and two checkpoints on one text: figures of every claim about them."""
