"""Decoding: containers, video frames, audio, scene cuts, and the video writer."""
