"""One run from its start to its last line."""
