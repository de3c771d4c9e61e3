"""Base classes shared by several objectives."""
