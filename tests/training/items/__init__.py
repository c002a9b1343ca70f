"""Tests of training/items."""
