"""What the page of an evaluated run shows, one file for each section that computes something."""
