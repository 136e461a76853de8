"""Jobs: submit, list, read, cancel, retry."""
