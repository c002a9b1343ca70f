"""Tests of training/loop."""
