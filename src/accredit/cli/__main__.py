"""``python -m accredit.cli``."""

import sys

from accredit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
