"""Cross-validation on the report: facts and the section that shows them."""
