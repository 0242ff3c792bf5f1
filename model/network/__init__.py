"""The DE-III network and its parts."""
