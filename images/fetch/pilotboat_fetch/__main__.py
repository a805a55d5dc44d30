"""`python -m pilotboat_fetch`. Owns: nothing but the entry."""

from .cli import main

raise SystemExit(main())
