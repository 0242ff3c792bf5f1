"""``deiii init``: look at a folder of recordings, and write the config and the table that deiii reads."""
