"""Scores of trained networks: metrics, reports, comparison, cross-validation."""
