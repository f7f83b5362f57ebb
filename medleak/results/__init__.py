"""The row, the tidy frame, and rows that were saved."""
