"""Recipes: whole jobs with Unroll's commands, beside the rivals of their field; `make examples` tries each."""
