"""What llama.cpp's server does not offer: the probabilities of an answer that is given.

Owns: its tokens, which llama.cpp tells over its own listener, and the grammar that lets it draw nothing else. The
probabilities that it tells of a drawn token are those before any grammar. Must not know: requests, events.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 10.0
"""Seconds for an answer of the listener, which is in this very process."""


@dataclass(frozen=True)
class Listener:
    """llama.cpp's own HTTP listener on its socket, and the key that it asks for."""

    path: Path
    key: str

    def tokens(self, text: str) -> list[int]:
        """Of the text as it stands in the middle of others. Raises RuntimeError where the listener does not say."""
        asked = {"content": text, "add_special": False, "parse_special": False}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        connection = _Connection(self.path)
        try:
            connection.request("POST", "/tokenize", json.dumps(asked), headers)
            response = connection.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise RuntimeError(f"the tokenizer does not answer ({type(error).__name__})") from error
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"the tokenizer answered {response.status}")
        tokens: list[int] = json.loads(said)["tokens"]
        return tokens


def exactly(tokens: Sequence[int]) -> str:
    """A grammar of llama.cpp that allows these tokens in this order, and nothing else."""
    return "root ::= " + " ".join(f"<[{token}]>" for token in tokens)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
