"""Reads the settings: defaults, then the ``--config`` file, the environment, the command line.

A key has one name in all places: ``--notify-every`` is ``notify_every`` in section ``[bulkwav]`` of
the file, and ``BULKWAV_NOTIFY_EVERY`` in the environment.
"""

import configparser
from collections.abc import Mapping

from twisted_bulk.errors import ConfigError
from twisted_bulk.node.settings import KEYS, SECRET_KEYS, Settings

SECTION = "bulkwav"  # of the file
PREFIX = "BULKWAV_"  # of environment variables
#: Variables that are no keys: the name of the file, and what the command `bulkwav` reads.
OTHERS = (
    *("BULKWAV_CONFIG", "BULKWAV_SERVER", "BULKWAV_TOKEN", "BULKWAV_TOKEN_FILE"),
    *("BULKWAV_SERVER_CA", "BULKWAV_QUEUE", "BULKWAV_TRACEBACK"),
)


def _from_file(path: str) -> dict[str, tuple[str, str]]:
    """The texts in a configuration file, by key, each with its source for messages."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except configparser.Error as error:
        # The parser's message repeats the line, and a password may be in it.
        lines = [at for at, _ in getattr(error, "errors", [])] or [getattr(error, "lineno", None)]
        where = f"line {lines[0]}" if lines[0] else "one of its lines"
        raise ConfigError(f"config: cannot read {path}: {where} is not `key = value`") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError(f"config: cannot read {path}: {reason}") from None
    others = [name for name in parser.sections() if name != SECTION]
    if others:
        raise ConfigError(f"[{others[0]}] in {path}: unknown section, expected [{SECTION}]")
    section = parser[SECTION] if parser.has_section(SECTION) else {}
    return {key: (value, f"in {path}") for key, value in section.items()}


def load(
    options: Mapping[str, str], environ: Mapping[str, str], config: str | None = None
) -> Settings:
    """Merge the four sources.

    :param options: texts from the command line, by key
    :param config: path of the configuration file; None: BULKWAV_CONFIG in the environment
    :raises ConfigError: names the key, its source, and what was expected
    """
    config = config or environ.get("BULKWAV_CONFIG")
    given = _from_file(config) if config else {}
    for name, value in environ.items():
        if name.startswith(PREFIX) and name not in OTHERS:
            given[name.removeprefix(PREFIX).lower()] = (value, f"in the environment ({name})")
    for key, value in options.items():
        given[key] = (value, f"on the command line (--{key.replace('_', '-')})")
    values = {}
    for key, (text, source) in given.items():
        if key not in KEYS:
            raise ConfigError(f"{key} {source}: unknown key; twistd.conf lists them all")
        try:
            values[key] = KEYS[key].metadata["parse"](text.strip())
        except ValueError as error:
            # The text may have a password in it.
            shown = "its value" if key in SECRET_KEYS else repr(text)
            raise ConfigError(f"{key} {source}: {shown} is not {error}") from None
    return Settings(**values, given={key: text for key, (text, _) in given.items()})
