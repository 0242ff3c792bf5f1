"""Prediction on media files with a trained network, and its export."""
