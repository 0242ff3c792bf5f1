"""A page about a preprocessed corpus."""
