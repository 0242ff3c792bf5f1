"""What single formats of media files need."""
