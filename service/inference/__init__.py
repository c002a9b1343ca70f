"""One request on a served model, without HTTP: its limits, its prompts, its texts as they come."""
