"""Windows of a recording: scored in order, and combined to the prediction for the whole."""
