"""From a user's options to a complete configuration: plan, presets, schedule, what the machine can do."""
