"""Corpus adapters: each turns a folder (and its label files) into a `deiii.data.clips.Corpus`."""
