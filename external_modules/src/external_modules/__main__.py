"""`python -m external_modules` is the command `external-modules`."""

import sys

from external_modules.command_line import main

if __name__ == "__main__":
    sys.exit(main())
