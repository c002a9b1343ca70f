"""Tests of the online memory."""
