"""The container images: what they are made of, how they are built, where they go.

`tree` reads the folders under images/ and names every image by its content; `engines` drives buildah, docker or podman;
`debian` makes the system that images stand on where no registry has one; `oci` writes built images for the lab;
`borrow` runs an image's program here; `work` puts these together for the command line. Standard library only: images
are built before any environment exists.
"""

from tools.images.borrow import borrow
from tools.images.tree import refs
from tools.images.work import build, export, load, push

__all__ = ["borrow", "build", "export", "load", "push", "refs"]
