"""Attacks that ask a model what its classes look like: who is known to it is drawn from memory."""
