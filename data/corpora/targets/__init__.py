"""The targets of prediction: classes that are joined or dropped, and the votes of raters."""
