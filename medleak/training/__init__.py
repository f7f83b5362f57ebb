"""From the specification of a run to a stored artefact, under the defense, and what an observer recorded."""
