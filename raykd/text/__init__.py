"""Text processing: analyzer, normalization, words, and compiled passes over UTF-8."""
