"""The container images: what they are made of, how they are built, where they go.

`tree` reads the folders under images/ and names every image by its content; `engines` drives buildah, docker or podman;
`debian` makes the system that images stand on where no registry has one; `oci` writes built images for the lab; `work`
puts these together for the command line. Standard library only: images are built before any environment exists.
"""

from tools.images.tree import refs
from tools.images.work import build, export, load, push

__all__ = ["build", "export", "load", "push", "refs"]
