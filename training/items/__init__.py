"""A corpus that is a list of items: how it is cut, batched, and read in rows that end at different places."""
