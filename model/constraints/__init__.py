"""Text that must match: a request for it, compiled into what may be drawn at each place of a text."""
