"""Copies of media files with noise, blur, occlusion or compression, to test how much a network bears."""
