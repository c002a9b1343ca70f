"""Tests of service/security."""
