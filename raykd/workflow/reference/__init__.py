"""Reference of recipe files, generated from their models: a JSON schema and a page of Markdown."""
