"""Intervals, ROC curves and means."""
