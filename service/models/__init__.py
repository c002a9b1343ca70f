"""The served models: their names and versions; loading, replacing and unloading while requests run."""
