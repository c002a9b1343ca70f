"""Shared by processes behind one port: memory, a lock, sums of limits, their health and their counts."""
