"""Anomalous lines and sessions of logs, found by their surprise to a model of the usual ones."""
