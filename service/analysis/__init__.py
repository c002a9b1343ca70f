"""Analysis of a text instead of its continuation: scores, ids and characters."""
