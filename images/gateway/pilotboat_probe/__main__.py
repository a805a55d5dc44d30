"""`python -m pilotboat_probe`. Owns: nothing but the entry."""

from .cli import main

raise SystemExit(main())
