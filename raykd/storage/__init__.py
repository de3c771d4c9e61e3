"""Files to read: their formats, folders of them, and rows of delimited text."""
