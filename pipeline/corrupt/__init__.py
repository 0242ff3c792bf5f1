"""Copies of media files with noise, blur, occlusion or compression, to test the robustness of a network."""
