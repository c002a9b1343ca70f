"""Tests of the page as it is served; those in a browser are in tests/browser."""
