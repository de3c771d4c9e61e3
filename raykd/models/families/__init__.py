"""Family-specific structure of transformer models."""
