"""The files that ``deiii predict`` writes, beside those of earlier commands in the same folder."""
