"""Foreign splits: read from the lists that others publish, and audited for what their parts share."""
