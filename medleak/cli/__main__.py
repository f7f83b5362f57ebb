"""``python -m medleak.cli``: the same as ``medleak``."""

import sys

from medleak.cli import main

if __name__ == "__main__":
    sys.exit(main())
