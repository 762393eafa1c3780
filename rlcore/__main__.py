"""`python -m rlcore`, and with it `torchrun -m rlcore run ...`."""

import sys

from rlcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
