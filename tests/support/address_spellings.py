"""Non-public addresses, in every way that we know to write them; and a program that tries all.

``python -m tests.support.address_spellings [NETWORK]`` asks for each; ``NETWORK`` is allowed.
"""

import ipaddress
import socket
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from twisted_bulk.dialing.guard import Guard
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.agent import GuardedAgent

V4 = (
    "127.0.0.1 127.8.9.10 0.0.0.0 10.1.2.3 100.64.1.1 169.254.169.254 172.16.5.5 192.168.1.1"
    " 192.0.0.170 192.0.2.7 198.18.0.9 198.51.100.1 203.0.113.1 224.0.0.251 240.0.0.1"
).split()
V6 = (
    "[::] [::1] [0:0:0:0:0:0:0:1] [0000::0001] [::2] [100::1] [2001::1] [2001:2::1] [2001:10::1]"
    " [2001:20::1] [2001:db8::1] [2001:0:7f00:1::1] [2002::1] [3fff::1] [5f00::1] [64:ff9b::1]"
    " [64:ff9b:1::1] [fc00::1] [fd00:ec2::254] [fe80::1] [febf::1] [fec0::1] [ff02::1] [ff05::2]"
    " [4000::1] [8000::1] [e000::1] [::ffff:0:127.0.0.1] [::FFFF:7F00:1] [0::ffff:7f00:0001]"
).split()
NAMES = "localhost LOCALHOST localhost. a.localhost user:pw@127.0.0.1 8.8.8.8@127.0.0.1".split()


def _of(text: str) -> list[str]:
    """Spellings of one IPv4 address."""
    a, b, c, d = (int(part) for part in text.split("."))
    whole = int(ipaddress.IPv4Address(text))
    six = ipaddress.IPv6Address
    return [
        text, f"{text}.", f"{whole}", f"0x{whole:x}", f"0{whole:o}",
        f"{a}.{(b << 16) + (c << 8) + d}", f"{a}.{b}.{(c << 8) + d}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:X}",
        f"0{a:o}.{b}.0x{c:x}.{d}",
        f"[::ffff:{text}]", f"[::{text}]", f"[{six((0xFFFF << 32) + whole)}]",
        f"[{six((0x64FF9B << 96) + whole)}]", f"[{six((0x2002 << 112) + (whole << 80) + 1)}]",
    ]  # fmt: skip


SPELLINGS = [*V6, *NAMES, *(spelling for text in V4 for spelling in _of(text))]


def look_up(host: str) -> list[str]:
    """What the system knows without asking anybody."""
    if host.lower().rstrip(".").endswith("localhost"):
        return ["127.0.0.1", "::1"]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return [str(address[0]) for *_, address in found]


async def ask(agent: GuardedAgent, port: int) -> dict[str, str]:
    """The code that each spelling ends with."""
    codes = {}
    for host in SPELLINGS:
        try:
            await agent.request(b"GET", f"http://{host}:{port}/".encode())
            codes[host] = "answered"
        except MemberError as error:
            codes[host] = error.code
    return codes


async def main(reactor: Any, networks: list[str]) -> None:
    """Ask for all, and say how many were refused."""
    guard = Guard(map(ipaddress.ip_network, networks))
    agent = GuardedAgent(reactor, guard, 1, connect_timeout=1, find=look_up)
    agent.startService()
    codes = await ask(agent, 9)
    await agent.stopService()
    refused = sum(code in ("address_refused", "dns_failed") for code in codes.values())
    print(refused, len(codes))


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1:])))
