"""Tests of service/tgi."""
