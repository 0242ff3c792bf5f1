"""What is looked at when a media file is opened."""
