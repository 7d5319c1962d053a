"""`python -m isthmus`: the command line."""

import sys

from isthmus.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
