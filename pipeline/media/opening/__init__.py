"""Checks when a media file is opened: files that are not media, and differences between versions of PyAV."""
