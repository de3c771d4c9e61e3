"""Text as bytes and as words: compiled passes, the analyzer, the normal form of a text."""
