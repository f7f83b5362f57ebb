"""A worked example of a medleak plugin."""
