"""A teacher that is a file of scores: reading, checks, and outputs as a model's would be."""
