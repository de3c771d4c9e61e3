"""The loss functions that objectives are made of."""
