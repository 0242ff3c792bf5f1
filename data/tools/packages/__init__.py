"""The Python packages that deiii needs."""
