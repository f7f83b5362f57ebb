"""Cells, plans and the scheduler: what is attacked, in which order, where."""
