"""Outputs in object stores: objects, lease of an output, and the mirror of a working folder."""
