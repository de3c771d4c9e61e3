"""Tokenization of text tables for a model."""
