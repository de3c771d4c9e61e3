"""Exact BM25: corpus statistics, shard index and search."""
