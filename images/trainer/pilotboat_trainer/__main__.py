"""`python -m pilotboat_trainer`. Owns: nothing but the entry."""

from .cli import main

raise SystemExit(main())
