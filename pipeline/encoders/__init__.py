"""Frozen encoders: from windows of samples, or face crops, to features of chosen layers."""
