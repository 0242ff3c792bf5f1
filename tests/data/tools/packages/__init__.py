"""Tests of `deiii.data.tools.packages`."""
