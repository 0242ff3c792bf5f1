"""The table of frozen encoders: what each one is, reads, gives and was trained on."""
