"""The recipes in miniature, and what they stand on; `make examples` installs and runs what needs rivals."""
