"""Recipes: complete tasks with Unroll's commands, compared with other methods; `make examples` tries each."""
