"""Cut long recordings into one file for each segment that a table lists (``deiii cut``)."""
