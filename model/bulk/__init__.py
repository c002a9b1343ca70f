"""Work in bulk on all cores: lists of items generated, and lines of any number of files scored."""
