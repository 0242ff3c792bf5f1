"""Tests of `deiii cut`."""
