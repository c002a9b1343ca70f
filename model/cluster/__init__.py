"""Bulk work spread over a cluster by Ray Data: blocks go out, any core works on them, and they come back in order."""
