"""What lies outside of labs: a network namespace that several labs are joined to, as regions are to the Internet.

Owns: the namespace, the links into it, and how a thread goes there. Must not know: what is run there, or asked.

From it nodes and pods of every joined lab are reached by their own addresses, and they reach it at ADDRESS, whichever
links of others are cut. Labs do not reach each other.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import net, procs
from lab.layout import DEFAULT, Lab

ADDRESS = "10.90.255.1"
UPLINK = "outside"
"""What a lab's end of its link is called; the other end is called after the lab's number."""
CHAINS = (("raw", "PREROUTING", "-i"), ("mangle", "POSTROUTING", "-o"))
"""Where packets vanish when a link is cut: those that come, and those that go."""
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Outside:
    """Called after one of the labs, with which it ends where nobody ends it before."""

    name: str = DEFAULT

    @property
    def netns(self) -> str:
        return f"pb-{self.name}-outside"

    def create(self) -> None:
        """Nobody is joined to it yet; one that is left over goes first."""
        self.remove()
        net.ip("netns", "add", self.netns)
        net.ip("link", "set", "lo", "up", netns=self.netns)
        net.ip("addr", "add", f"{ADDRESS}/32", "dev", "lo", netns=self.netns)

    def remove(self) -> None:
        """With it go both ends of every link."""
        if net.exists(self.netns):
            net.ip("netns", "delete", self.netns)

    def join(self, lab: Lab) -> None:
        """A link from a lab's control plane, through which its nodes reach whatever is not theirs."""
        net.ip("link", "del", UPLINK, netns=lab.netns, check=False)
        other = ["type", "veth", "peer", "name", _link(lab), "netns", self.netns]
        net.ip("link", "add", UPLINK, "netns", lab.netns, *other)
        net.ip("addr", "add", f"{_here(lab)}/30", "dev", _link(lab), netns=self.netns)
        net.ip("addr", "add", f"{_there(lab)}/30", "dev", UPLINK, netns=lab.netns)
        net.ip("link", "set", _link(lab), "up", netns=self.netns)
        net.ip("link", "set", UPLINK, "up", netns=lab.netns)
        for whose in (f"{lab.address}/24", lab.pod_cidr):
            whole = ipaddress.ip_interface(whose).network
            net.ip("route", "add", str(whole), "via", _there(lab), netns=self.netns)
        net.ip("route", "add", f"{ADDRESS}/32", "via", _here(lab), netns=lab.netns)

    def cut(self, lab: Lab) -> None:
        """The lab lives on, and whatever is sent there or comes from there vanishes: nobody is told."""
        self.mend(lab)
        self._rules("-I", lab)

    def mend(self, lab: Lab) -> None:
        """May be done at any time."""
        self._rules("-D", lab, check=False)

    def _rules(self, verb: str, lab: Lab, *, check: bool = True) -> None:
        for table, chain, flag in CHAINS:
            rule = ["iptables", "-w", "-t", table, verb, chain, flag, _link(lab), "-j", "DROP"]
            subprocess.run([*procs.in_netns(self.netns), *rule], check=check, capture_output=True)

    def enter(self) -> None:
        """The calling thread goes there for good: its sockets, and the processes it starts, are outside."""
        libc = ctypes.CDLL(None, use_errno=True)
        place = os.open(Path("/run/netns", self.netns), os.O_RDONLY)
        try:
            if libc.setns(place, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {self.netns}")
        finally:
            os.close(place)


def _link(lab: Lab) -> str:
    return f"lab{lab.index}"


def _here(lab: Lab) -> str:
    return f"10.90.{lab.index}.1"


def _there(lab: Lab) -> str:
    return f"10.90.{lab.index}.2"
