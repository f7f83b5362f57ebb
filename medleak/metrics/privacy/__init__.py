"""Upper bounds that a guarantee allows, and lower bounds that an attack proves."""
