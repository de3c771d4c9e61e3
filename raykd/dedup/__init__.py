"""Deduplication of a corpus: exact and near duplicates."""
