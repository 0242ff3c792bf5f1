"""Sections of the page about an evaluated run, one file for each section that computes something."""
