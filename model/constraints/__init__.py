"""Text that must match: a request's constraint, compiled into the ids that are allowed at each place of a text."""
