"""Tests that go through the front door; the folders mirror the packages."""
