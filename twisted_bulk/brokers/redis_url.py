"""Where a Redis is: its URL taken apart. Pure."""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

EXPECTED = (
    "redis://[user:password@]host[:port][/db], rediss://... (TLS), unix:///path[?db=n] or"
    " sentinel://[user:password@]host[:port],.../master-name[/db]"
)
OPTIONS = {  # of each scheme
    "redis": set(),
    "rediss": {"ca"},
    "unix": {"db"},
    "sentinel": {"tls", "ca", "replicas", "sentinel_user", "sentinel_password"},
}
Host = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Address:
    """A Redis, or the Sentinels that know which one it is.

    :param hosts: the server, or the Sentinels; none for a unix socket
    :param master: the name that Sentinel has for it
    :param replicas: how many replicas must have a write before it counts as done
    :param ca: file of the certificate authorities to trust instead of the system's
    """

    hosts: tuple[Host, ...] = ()
    path: str = ""
    database: int = 0
    credentials: tuple[str, ...] = ()
    master: str = ""
    sentinel_credentials: tuple[str, ...] = ()
    replicas: int = 0
    tls: bool = False
    ca: str = ""

    @property
    def where(self) -> str:
        """The name of this server in logs, without secrets."""
        if self.path:
            return self.path
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.master} by {hosts}" if self.master else hosts


def _host(text: str, port: int) -> Host:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/]+)(?::(\d{1,5}))?", text)
    if not match or not 0 < int(match[2] or port) < 65536:
        raise ValueError("there is no host, or no port from 1 to 65535")
    return match[1].strip("[]"), int(match[2] or port)


def _secrets(*words: str | None) -> tuple[str, ...]:
    return tuple(unquote(word) for word in words if word)


def _options(parts: SplitResult) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = options.keys() - OPTIONS[parts.scheme]
    if unknown:
        raise ValueError(f"it has an option that {parts.scheme}:// has not")
    return options


def _database(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,6}", text):
        raise ValueError("the database is not a number")
    return int(text or 0)


def parse_redis_url(url: str) -> Address:
    """:raises ValueError: says what was expected"""
    parts = urlsplit(url)
    if parts.scheme not in OPTIONS:
        raise ValueError("it begins with no kind of Redis")
    options = _options(parts)
    login, _, netloc = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    credentials = _secrets(user, password)
    if parts.scheme == "unix":
        if netloc or parts.path in ("", "/"):
            raise ValueError("there is no path")
        database = _database(options.get("db", ""))
        return Address(path=unquote(parts.path), database=database, credentials=credentials)
    words = parts.path.strip("/").split("/")
    if parts.scheme != "sentinel":
        if len(words) > 1:
            raise ValueError("the database is not a number")
        return Address(
            hosts=(_host(netloc, 6379),),
            database=_database(words[0]),
            credentials=credentials,
            tls=parts.scheme == "rediss",
            ca=options.get("ca", ""),
        )
    if not words[0] or len(words) > 2:
        raise ValueError("the name of the master after the Sentinels' addresses")
    return Address(
        hosts=tuple(_host(host, 26379) for host in netloc.split(",")),
        database=_database(words[1] if len(words) == 2 else ""),
        credentials=credentials,
        master=unquote(words[0]),
        sentinel_credentials=_secrets(
            options.get("sentinel_user"), options.get("sentinel_password")
        ),
        replicas=_database(options.get("replicas", "1")),
        tls=options.get("tls", "no") in ("yes", "1", "true"),
        ca=options.get("ca", ""),
    )
