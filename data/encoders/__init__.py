"""The table of frozen encoders: inputs, outputs, weights and training data of each."""
