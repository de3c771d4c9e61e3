"""Cross-validation of a recipe: a run per fold, and a final student on all labeled rows."""
