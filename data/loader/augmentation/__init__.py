"""The parts of augmentation: video frames and flow, and log-mel."""
