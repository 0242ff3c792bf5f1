"""Decoders other than FFmpeg's on the processor."""
