"""`python -m proctally`: the same as the installed command."""

import sys

from proctally.cli import main

if __name__ == "__main__":
    sys.exit(main())
