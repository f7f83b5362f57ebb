"""The patients of an experiment: their split, the membership matrix, canaries."""
