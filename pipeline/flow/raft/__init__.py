"""RAFT with the same results as torchvision's, and less work."""
