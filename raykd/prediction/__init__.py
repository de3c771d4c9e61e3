"""Predictions of a classifier for the rows of any files, all columns kept."""
