"""Attribute inference: a column of records that the adversary does not hold."""
