"""Measure how much a medical-imaging model tells about its patients."""

__version__ = "0.1.0"
