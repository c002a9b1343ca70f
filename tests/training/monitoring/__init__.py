"""Tests of training/monitoring."""
