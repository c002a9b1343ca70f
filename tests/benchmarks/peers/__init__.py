"""Other servers beside this one: what they are built from, how they are started, and what they write."""
