"""``python -m accredit.demo``."""

import os
import sys

from accredit.demo import run

if __name__ == "__main__":
    try:
        status: int = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output closed it; what is still buffered goes into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)
