"""Exact BM25: statistics, the index of a shard, and the search in it."""
