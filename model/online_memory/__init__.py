"""An online memory beside any network: what followed earlier occurrences of the last ids in the text read so far."""
