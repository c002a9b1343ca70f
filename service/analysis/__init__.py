"""Facts about a text in place of its continuation: scores, ids and characters."""
