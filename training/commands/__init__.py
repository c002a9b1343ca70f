"""The commands train, evaluate and copied, and their options."""
