"""Training of a masked-LM head on a frozen encoder."""
