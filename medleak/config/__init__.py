"""From the command line and YAMLs to resolved configurations and objects; the only room that knows Hydra."""
