"""Published corpora whose labels or file names need code: each module has a function `scan`."""
