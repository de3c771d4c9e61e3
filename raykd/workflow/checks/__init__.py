"""Checks and descriptions before models are trained."""
