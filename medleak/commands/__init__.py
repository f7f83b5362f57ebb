"""One module for each command: ``main(arguments) -> exit status``."""
