"""Overlay videos: face boxes, probabilities over time, and the source's audio."""
