"""Texts -> token arrays of a length that a model can read."""
