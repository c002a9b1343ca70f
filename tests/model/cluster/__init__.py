"""Tests of bulk work on a cluster."""
