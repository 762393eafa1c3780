"""`python -m rlcore`, and with it `torchrun -m rlcore run ...`."""

import sys

from rlcore.cli import main

sys.exit(main())
