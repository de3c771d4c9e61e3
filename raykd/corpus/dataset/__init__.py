"""Corpora that Ray Data reads: settings of the readers, and copies of their documents."""
