"""The verbs of the terminal that need neither training nor a server: generate, info; and verbs made of options."""
