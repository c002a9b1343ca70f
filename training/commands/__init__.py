"""The commands train, evaluate, compare and copied, and their options."""
