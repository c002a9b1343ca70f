"""Tests of training/planning."""
