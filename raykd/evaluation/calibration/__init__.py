"""Calibration of probabilities, and selective prediction, measured on held-out rows."""
