"""Long recordings, read in order with bounded memory."""
