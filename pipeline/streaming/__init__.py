"""Features of recordings that are read in order, with bounded memory."""
