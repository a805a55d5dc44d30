"""`python -m pilotboat` is `pilotboat`."""

import sys

from pilotboat.cli import main

sys.exit(main())
