"""Text that is the same for the same content, such as JSON for digests and CSV; columns for the terminal."""
