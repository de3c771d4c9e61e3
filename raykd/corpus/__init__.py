"""Corpora: documents, units and shards."""
