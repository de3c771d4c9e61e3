"""Corpora whose rows are units, with ids of their own or by position."""
