"""Tests of service/analysis."""
