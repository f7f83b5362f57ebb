"""From a stored artefact to exactly the views that an adversary is given; shadows alike."""
