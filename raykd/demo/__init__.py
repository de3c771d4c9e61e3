"""Texts for the quickstart, from packages that are installed on every machine."""
