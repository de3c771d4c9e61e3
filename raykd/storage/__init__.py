"""Files, folders and tables: where they are, how they are read, manifests of what was written."""
