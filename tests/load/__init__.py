"""Bounded scripts that load, stop and break a real server on this machine, and tell what its clients saw."""
