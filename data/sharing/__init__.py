"""Features for other people: in formats that need no deiii, and as archives with a card."""
