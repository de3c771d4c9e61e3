"""One trial: what all share, and the training of its student."""
