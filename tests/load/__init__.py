"""Bounded scripts that load, stop and break a real server on this machine, and report what its clients saw."""
