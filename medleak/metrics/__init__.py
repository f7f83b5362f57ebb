"""Pure functions of an answer and the truth."""
