"""Tests of model/constraints."""
