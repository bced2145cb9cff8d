"""`python -m condensatenet` is the command `condensatenet`."""

import sys

from condensatenet.command_line import main

if __name__ == "__main__":
    sys.exit(main())
