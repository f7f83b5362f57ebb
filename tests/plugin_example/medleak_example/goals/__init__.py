"""Goals of the example: one module each, and a YAML in conf/goal/."""
