"""Features of a frozen encoder of face crops."""
