"""Retrieval: task sentences -> queries -> the top-k units of each query."""
