"""Patterns as tables of states: regular expressions and JSON schemas read into trees, places and states."""
