"""Commands on models: train a head, predict, export."""
