"""The kinds of artefact that medleak knows; a YAML in ``conf/artefact/`` names each."""
