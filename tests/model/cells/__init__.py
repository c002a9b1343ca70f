"""Tests of model/cells."""
