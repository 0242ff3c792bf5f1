"""What is to be predicted: classes joined or dropped, and what raters chose."""
