"""Odd lines and sessions of logs, found by how much they surprise a model of what is usual there."""
