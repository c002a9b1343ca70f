"""What every command is made of: options said once, help, errors in our words, and a console that no text steers."""
