"""Starter recipes for a user's own task: what its files say, and the recipe that fits them."""
