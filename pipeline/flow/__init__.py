"""The flow stage: dense optical flow between consecutive crops."""
