"""Checks of settings: values of the wrong type, and settings that have no effect beside the others."""
