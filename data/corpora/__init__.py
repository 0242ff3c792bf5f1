"""Corpora: clips and splits, and one adapter for each corpus that reads its folder into a `Corpus`."""
