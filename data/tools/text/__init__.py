"""Text that is the same for the same content: JSON for digests, and CSV."""
