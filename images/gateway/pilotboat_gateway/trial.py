"""HAProxy's own word on a configuration, before it is to run with it.

Owns: the question, and which routes are at fault where the answer is no. Must not know: the process that runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pilotboat.api.routing import Route

from . import table
from .config import render
from .runtime import Rejected
from .settings import Settings


class Trial:
    """Remembers each route that HAProxy refused, for as long as the route is what it was then."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._refused: dict[str, tuple[Route, str]] = {}

    @property
    def refused(self) -> dict[str, str]:
        """HAProxy's words by deployment."""
        return {name: words for name, (_, words) in self._refused.items()}

    def usable(self, routes: Mapping[str, Route], standing: Mapping[str, Route]) -> dict[str, Route]:
        """These; of each that was refused what stood before, if anything did."""
        self._refused = {name: told for name, told in self._refused.items() if routes.get(name) == told[0]}
        kept = {name: standing[name] for name in self._refused if name in standing}
        return {name: route for name, route in routes.items() if name not in self._refused} | kept

    async def blame(self, routes: Mapping[str, Route], standing: Mapping[str, Route]) -> None:
        """Find those at fault, of which none is as it stood. Raises Rejected where it is none: a file without any route
        is refused too."""
        if words := await self.refuses(self._alone({})):
            raise Rejected(words)
        for name, route in routes.items():
            if route != standing.get(name) and (words := await self.refuses(self._alone({name: route}))):
                self._refused[name] = route, words

    def _alone(self, routes: Mapping[str, Route]) -> str:
        return render(routes, table.arrange(routes, {}, {}), self._settings)

    async def refuses(self, text: str) -> str:
        """Why HAProxy would not start with it; nothing where it would."""
        path = self._settings.folder / "haproxy.try"
        path.write_text(text)
        self._settings.map.touch()  # which it reads as well
        process = await asyncio.create_subprocess_exec(
            *("haproxy", "-c", "-f", str(path)), stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        said = (await process.communicate())[1].decode(errors="replace")
        alerts = [line.split(" : ", 1)[-1] for line in said.splitlines() if line.startswith("[ALERT]")]
        return ("; ".join(alerts) or said or "no word")[:2000] if process.returncode else ""
