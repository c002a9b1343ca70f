"""From what a user asks to a complete configuration: plan, presets, schedule, what the machine can do."""
