"""Small tools that know nothing of emotion recognition: files, locks, downloads, signals."""
