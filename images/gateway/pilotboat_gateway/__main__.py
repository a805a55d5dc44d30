"""`python -m pilotboat_gateway`. Owns: nothing but the entry."""

from .cli import main

raise SystemExit(main())
