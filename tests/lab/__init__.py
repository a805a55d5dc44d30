"""A real Kubernetes on one Linux machine, without Docker: three nodes in three zones, each a network namespace.

Standard library only: it runs before any environment exists. It must not know Pilotboat; it knows Kubernetes.
"""

import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]

# The progress display is shared with the other tools, which lie at the top.
if str(REPO) not in sys.path:
    sys.path.append(str(REPO))
