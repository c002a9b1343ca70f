"""Tests of model/commands."""
