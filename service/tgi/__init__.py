"""Text-generation-inference's dialect: /generate, /generate_stream, /, /info."""
