"""Parts of every command: options defined once, help, clear errors, and a console safe from control characters."""
