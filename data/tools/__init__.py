"""General tools that do not concern emotion recognition: files, locks, downloads, signals."""
