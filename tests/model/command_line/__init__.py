"""Tests of model/command_line."""
