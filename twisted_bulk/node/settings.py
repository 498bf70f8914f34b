"""All settings of a node: key, type, default, help."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from twisted_bulk.jobs.quiet_hours import Hours, parse_hours
from twisted_bulk.node import values
from twisted_bulk.node.values import choice, endpoint, flag, frequency, networks, number, positive
from twisted_bulk.system.net import Network
from twisted_bulk.system.units import duration, size


def _key(parse: Callable[[str], Any], default: str, metavar: str, text: str) -> Any:
    # A default is written as users write it, and parsed as their values are.
    return field(
        default_factory=lambda: parse(default),
        metadata={"parse": parse, "default": default, "metavar": metavar, "help": text},
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a node, in the order of ``twistd.conf``.

    ``given``: the settings that are not at their defaults, by key, as their texts were written.
    """

    data: Path = _key(
        lambda text: Path(text).absolute(),
        os.environ.get("STATE_DIRECTORY", "").split(":")[0] or "bulkwav-data",
        "DIR",
        "folder of everything on disk: finished zips, unfinished work, the embedded server",
    )
    roles: frozenset[values.Role] = _key(
        values.roles, "intake,worker,files", "LIST", "what this node does: intake, worker, files"
    )
    intake: str = _key(endpoint, "tcp:10000", "ENDPOINT", "where the API listens")
    files: str = _key(endpoint, "tcp:10001", "ENDPOINT", "where finished zips are served")
    public_url: str = _key(
        values.public_url, "", "URL", "what links begin with [http://<host name>:<port of --files>]"
    )
    redis: str = _key(
        values.redis_url,
        "embedded",
        "URL",
        "embedded, redis://[user:password@]host[:port][/db], rediss://, unix:///path or sentinel://",
    )
    broker: str = _key(
        values.broker_url, "", "URL", "instead of Redis, for one machine: sqlite:///path or memory:"
    )
    rate: int = _key(size, "200k", "BYTES", "bytes a second per client address; 0 for no limit")
    total_rate: int = _key(
        size, "0", "BYTES", "bytes a second of the file port in all; 0 for no limit"
    )
    exempt_net: tuple[Network, ...] = _key(
        networks, "", "CIDR", "clients without a rate of their own; may be given repeatedly"
    )
    ipv6_prefix: int = _key(
        number(16, 128), "64", "N", "bits of an IPv6 address that make up one client"
    )
    max_connections: int = _key(
        number(16, 1_000_000), "20000", "N", "connections to the file port at once"
    )
    per_address: int = _key(number(16, 1_000_000), "100", "N", "of these from one client address")
    request_rate: int = _key(
        number(0, 1_000_000), "1000", "N",
        "requests a second to the API from one token or address; 0: any number",
    )  # fmt: skip
    allow_host: tuple[str, ...] = _key(
        values.hosts, "", "NAME",
        "names of this server, for pages that use it without a token; may be given repeatedly",
    )  # fmt: skip
    trusted_proxy: tuple[Network, ...] = _key(
        networks, "", "CIDR", "proxies whose X-Forwarded-For is believed; may be given repeatedly"
    )
    proxy_protocol: bool = _key(
        flag, "no", "", "they begin each connection to the file port with a PROXY header"
    )
    log_format: str = _key(
        choice("auto", "json", "text"), "auto", "FORM",
        "the log's: json, text, or auto: text on a terminal",
    )  # fmt: skip
    access_log: str = _key(
        str, "", "FILE", "one JSON object a line for each answer; - for the standard output"
    )
    concurrency: int = _key(number(1, 10_000), "32", "N", "downloads at once on this node")
    per_host: int = _key(number(1, 10_000), "8", "N", "of these to one host")
    parts: int = _key(number(1, 5000), "4", "N", "zips being made at once in each process")
    cluster_parts: int = _key(
        number(0, 100_000), "0", "N", "zips being made at once on all nodes; 0 for no limit"
    )
    parts_per_second: float = _key(
        frequency, "0", "N", "zips begun a second on all nodes; 0 for no limit"
    )
    no_run: Hours = _key(
        parse_hours, "", "TIMES", "when no zip is begun: 22:00-06:00, sat 00:00-24:00 Europe/Berlin"
    )
    workers: int = _key(number(0, 256), "0", "N", "further worker processes of this node")
    retries: int = _key(number(0, 100), "3", "N", "further tries for a member when that may help")
    retry_on: tuple[int, ...] = _key(
        values.statuses, "", "LIST", "HTTP statuses that are tried again too, such as 404,409"
    )
    max_redirects: int = _key(number(0, 50), "20", "N", "redirects that a member may go through")
    dns_timeout: float = _key(positive, "5s", "TIME", "deadline to resolve a host's name")
    connect_timeout: float = _key(positive, "10s", "TIME", "deadline to connect, and again for TLS")
    header_timeout: float = _key(positive, "30s", "TIME", "deadline for response headers")
    idle_timeout: float = _key(positive, "30s", "TIME", "longest silence within a body")
    min_speed: int = _key(size, "1k", "BYTES", "least bytes a second of a member, over a minute")
    member_timeout: float = _key(
        positive, "6h", "TIME", "deadline for a member, with all its tries"
    )
    host_patience: float = _key(
        positive, "10m", "TIME", "how long a host may be away before its members fail"
    )
    member_bytes: int = _key(size, "100G", "BYTES", "size at which a member is given up")
    notify_every: float = _key(positive, "3s", "TIME", "time between progress callbacks")
    compress: str = _key(
        choice("auto", "store", "deflate"),
        "auto",
        "MODE",
        "auto deflates what gets smaller; or store, deflate",
    )
    part_files: int = _key(
        number(1, 1_000_000), "10000", "N", "members in one zip; a larger batch becomes several"
    )
    part_bytes: int = _key(
        size, "4G", "BYTES", "size of a zip beyond which its next member begins another"
    )
    max_urls: int = _key(number(1, 10_000_000), "1000000", "N", "URLs in one POST")
    max_body: int = _key(size, "256M", "BYTES", "size of one POST's body")
    queue_cap: int = _key(
        number(1, 100_000_000), "2000000", "N", "unfinished members in all; beyond it 503"
    )
    redis_memory: int = _key(
        values.memory, "1G", "BYTES", "what the embedded server may use for data; 0 for no limit"
    )
    keep: float = _key(positive, "7d", "TIME", "how long a finished zip and its record stay")
    public_group: int | None = _key(
        values.group, "", "GROUP", "who may read public/ beside this user, to serve zips otherwise"
    )
    allow_net: tuple[Network, ...] = _key(
        networks, "", "CIDR", "non-public networks that may be reached; may be given repeatedly"
    )
    allow_ports: tuple[range, ...] = _key(
        values.ports, "80,443,1024-65535", "LIST", "ports that downloads and callbacks may reach"
    )
    ca: str = _key(str, "", "FILE", "certificate authorities to trust beside the system's, PEM")
    trust: Mapping[str, frozenset[str]] = _key(
        values.pins, "", "PIN",
        "HOST[:PORT]=SHA256 of a certificate to trust there; may be given repeatedly",
    )  # fmt: skip
    proxy: str = _key(
        values.proxy_url,
        "",
        "URL",
        "HTTP proxy for downloads and callbacks: http://[user:pw@]host:port",
    )
    disk_soft: int = _key(
        number(1, 100), "85", "N", "percent of the disk in use from which batches are refused"
    )
    disk_hard: int = _key(
        number(1, 100), "95", "N", "percent of the disk in use from which downloads pause"
    )
    disk_back: int = _key(
        number(1, 100), "80", "N", "percent of the disk in use below which all goes on again"
    )
    tokens: str = _key(
        str,
        "",
        "FILE",
        "SHA-256, name and scopes of a token on each line; without it only loopback clients",
    )
    open: bool = _key(flag, "no", "", "let clients from anywhere in without a token")
    secret: str = _key(
        str, "", "FILE", "secrets that sign callbacks [<data>/secret, made at first start]"
    )
    drain: float = _key(duration, "30s", "TIME", "how long a stop waits for running work")
    quarantine: bool = _key(
        flag, "no", "", "run suspects only; set for a process of this node's own"
    )
    lifeline: bool = _key(
        flag, "no", "", "stop when standard input ends; set for the processes that this node starts"
    )

    own_ports: frozenset[int] = _key(
        values.numbers, "", "LIST", "ports of this node; set for the processes that it starts"
    )

    given: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


#: Keys of settings whose values may have a password in them; they are shown nowhere.
SECRET_KEYS = frozenset(("redis", "broker", "proxy", "public_url"))
#: The fields of :class:`Settings` that users can give, by key.
KEYS = {key.name: key for key in fields(Settings) if "parse" in key.metadata}
