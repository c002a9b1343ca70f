"""Tests of which models are served."""
