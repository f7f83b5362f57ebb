"""Keys, the store, seeds, checked numbers, progress and provenance: it knows nothing of privacy."""
