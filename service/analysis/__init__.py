"""What can be asked about a text instead of its continuation: scores, ids and characters."""
