"""Faults of recordings and of the tables and folders that name them, as other people's files have them."""
