"""Which units say the same, and which say what a model is to be examined on."""
