"""The samples of one recording, joined according to their times."""
