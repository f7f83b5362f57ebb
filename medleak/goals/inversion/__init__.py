"""Model inversion: what a model tells of how its classes look."""
