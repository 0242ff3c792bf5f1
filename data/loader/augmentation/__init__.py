"""The parts of augmentation: pictures and flow, and log-mel."""
