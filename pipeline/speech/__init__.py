"""Features of a frozen speech encoder."""
