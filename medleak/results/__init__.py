"""Results: the row with its schema version, means over seeds, and the tidy frame."""
