"""Prediction on a camera, a network stream or a file played in real time."""
