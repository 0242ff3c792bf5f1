"""Scores of a trained network on test recordings with noise, blur, occlusion and compression."""
