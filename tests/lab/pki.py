"""Certificates and kubeconfigs of a control plane, made with openssl. It must not know how they are used."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.steps import StepFailed

DAYS = "3650"
# Python 3.13 verifies strictly: an authority says what its key is for, and every certificate names its issuer's key.
AUTHORITY = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
LEAF = "basicConstraints=critical,CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StepFailed(f"openssl {arguments[0]}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Authority:
    """One certificate authority and what it has signed, in one folder."""

    dir: Path

    def key(self, name: str) -> Path:
        return self.dir / f"{name}.key"

    def cert(self, name: str) -> Path:
        return self.dir / f"{name}.crt"

    def create(self) -> None:
        self.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        subject = ["-subj", "/CN=lab-ca", "-days", DAYS]
        openssl("req", "-x509", *EC, "-keyout", self.key("ca"), "-out", self.cert("ca"), *subject, *AUTHORITY)
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key("sa"))
        openssl("ec", "-in", self.key("sa"), "-pubout", "-out", self.dir / "sa.pub")

    def issue(self, name: str, *, user: str, group: str, names: Sequence[str] = ()) -> None:
        """A key and a certificate that serve both as a server's and as a client's. `names`: DNS:... and IP:..."""
        request, extensions = self.dir / f"{name}.csr", self.dir / f"{name}.ext"
        openssl("req", *EC, "-keyout", self.key(name), "-out", request, "-subj", f"/O={group}/CN={user}")
        alternatives = ",".join(names or [f"DNS:{name}"])
        extensions.write_text(f"{LEAF}subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n")
        signing: list[str | Path] = ["-CA", self.cert("ca"), "-CAkey", self.key("ca"), "-days", DAYS]
        # Nodes' certificates are issued at once, and would fight for openssl's file of the last serial number.
        signing += ["-set_serial", str(secrets.randbits(120))]
        openssl("x509", "-req", "-in", request, "-out", self.cert(name), *signing, "-extfile", extensions)

    def kubeconfig(self, path: Path, *, user: str, server: str, context: str) -> Path:
        """A kubeconfig that needs no other file: it may be copied or printed."""
        path.write_text(json.dumps(self._kubeconfig(user, server, context), indent=1) + "\n")
        path.chmod(0o600)
        return path

    def _kubeconfig(self, user: str, server: str, context: str) -> dict[str, object]:
        def data(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        cluster = {"server": server, "certificate-authority-data": data(self.cert("ca"))}
        credentials = {
            "client-certificate-data": data(self.cert(user)),
            "client-key-data": data(self.key(user)),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": cluster}],
            "users": [{"name": context, "user": credentials}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "current-context": context,
        }
