"""Hits -> the contextualized corpus, and the random corpus that it is compared with."""
