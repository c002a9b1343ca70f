"""Tests of model/patterns."""
