"""Property inference: the share of a value in the training set."""
