"""Where the families of transformers keep what they all have."""
