"""Tests of service/transport."""
