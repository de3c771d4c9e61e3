"""Contextualized corpora: selection, decontamination, and the random baseline."""
