"""How much disk the images still want, asked before anything is changed: a build that dies half way costs minutes.

Owns: the bounds, which docs/images.md explains. It must not know what else is to be on the disk.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tools import host
from tools.images import tree

HEIGHT = 27
"""GiB under the cache while torch is built for the first time, wheels and the lab's programs included."""
TORCH = 17
"""GiB that a build of torch takes for a while, whatever is there already."""
COPIES = 13
"""GiB of the images as layouts and as unpacked layers, which the lab wants."""


def wanted(lab: bool) -> float:
    """GiB that must be free for the images of this tree, and for the lab's copies of them; 0 where all is there."""
    home = host.cache()
    built = _torch_is_built(home)
    copied = not lab or (home / "containers" / "oci" / "server").exists()
    return bound(built, copied, 0 if built else _used(home))


def bound(built: bool, copied: bool, used: float) -> float:
    """The decision; `used`: GiB that are under the cache already."""
    if not built:
        return max(HEIGHT - used, TORCH)
    return 0 if copied else COPIES


def _torch_is_built(home: Path) -> bool:
    """By the records of the builder's store: the builder itself may not be installed yet."""
    try:
        images = json.loads((home / "containers" / "storage" / "overlay-images" / "images.json").read_text())
    except OSError:
        return False
    return any(tree.refs()["torch"] in (image.get("names") or ()) for image in images)


def _used(home: Path) -> float:
    """Files that are hard-linked count once; some may vanish meanwhile, which du complains of and no more."""
    said = subprocess.run(["du", "-sk", str(home)], capture_output=True, text=True, check=False).stdout
    return int(said.split()[0]) / 2**20
