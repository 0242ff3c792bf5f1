"""Published splits: read from lists of files, and checked for clips and speakers that their parts share."""
