"""Corpus adapters: each turns a folder (and its label files) into a `deiii.data.corpora.clips.Corpus`."""
