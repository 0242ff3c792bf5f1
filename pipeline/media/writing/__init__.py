"""Writing media files: videos for people to look at, and copies for the stages to read."""
