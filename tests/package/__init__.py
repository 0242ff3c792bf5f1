"""The built package: what is in the wheel, and whether it works away from the checkout."""
