"""File names in an archive: safe on every system, and no two alike."""

import hashlib
import re
import unicodedata
from urllib.parse import unquote

from twisted_bulk.batch.masks import without_parameters

MANIFEST = "manifest.json"  # the file of a zip that lists its members
MAX_SEGMENT_BYTES = 200  # of UTF-8 in one path segment; a longer one is cut before its ending
MAX_LEVELS = 32  # of folders, the file included; the lowest folders beyond are left out

#: Control characters, those that Windows refuses, marks that change the direction of text.
_UNSAFE = re.compile(
    '[\x00-\x1f\x7f-\x9f<>:"\\\\|?*\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]'
)
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?")


def _segment(text: str) -> str:
    """``text`` as one safe path segment; may be empty."""
    text = _UNSAFE.sub("_", unicodedata.normalize("NFC", text)).strip(" ").rstrip(". ")
    if not text.strip("."):
        return ""
    if _RESERVED.fullmatch(text):
        text = "_" + text
    if len(text.encode()) > MAX_SEGMENT_BYTES:
        stem, dot, ending = text.rpartition(".")
        if not dot or len(ending.encode()) > 20:
            stem, dot, ending = text, "", ""
        room = MAX_SEGMENT_BYTES - len((dot + ending).encode())
        text = stem.encode()[:room].decode(errors="ignore").rstrip(". ") + dot + ending
    return text


def safe(name: str) -> str:
    """``name`` as a relative path that is safe; may be empty.

    Slashes separate folders. ``..``, drive letters and the slash of an absolute path lose their
    meaning. A path has at most :data:`MAX_LEVELS` levels.
    """
    parts = list(filter(None, map(_segment, name.replace("\\", "/").split("/"))))
    return "/".join([*parts[: MAX_LEVELS - 1], *parts[MAX_LEVELS - 1 :][-1:]])


def from_url(url: str) -> str:
    """A safe name from a URL: its last path segment, decoded once, without secret parameters."""
    path = re.split(r"[?#]", url.split("://", 1)[1], maxsplit=1)[0]
    path = without_parameters(path)
    last = path.rstrip("/").split("/")[-1] if "/" in path.rstrip("/") else ""
    return _segment(unquote(last).replace("/", "_").replace("\\", "_"))


def sharded(name: str) -> str:
    """``name`` in four folders, named by the first four hexadecimal digits of its SHA-1."""
    digits = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
    return "/".join([*digits[:4], name])


class Names:
    """The names that are taken in one archive.

    Gives each name once: ``a (2).wav`` after ``a.wav``. Upper and lower case are one name, because
    they are on Windows and macOS. A file and a folder never have one name: after ``a``, ``a/b``
    becomes ``a (2)/b``.
    """

    def __init__(self) -> None:
        self._files = {MANIFEST}
        self._folders: set[int] = set()  # hashes of them: many long names would need much memory
        self._renamed: dict[str, str] = {}
        self._next: dict[str, int] = {}

    def take(self, wanted: str) -> str:
        """Take ``wanted``, or the nearest name that is free; returns the name that was taken."""
        folder, _, last = (wanted or "file").rpartition("/")
        stem, dot, ending = last.rpartition(".")
        if not stem:
            stem, dot, ending = last, "", ""
        name = self._free(self._folder(folder), stem, dot + ending)
        self._files.add(name.casefold())
        return name

    def _folder(self, wanted: str) -> str:
        """The folder in place of ``wanted``, with a slash at its end, or empty."""
        if not wanted:
            return ""
        key = wanted.casefold()
        if key in self._renamed:
            return self._renamed[key]
        above, _, last = wanted.rpartition("/")
        name = self._folder(above) + last
        if hash(name.casefold()) not in self._folders:
            if name.casefold() in self._files:
                name = self._free(name[: len(name) - len(last)], last, "")
                self._renamed[key] = name + "/"
            self._folders.add(hash(name.casefold()))
        return name + "/"

    def _free(self, folder: str, stem: str, ending: str) -> str:
        name = f"{folder}{stem}{ending}"
        key = taken = name.casefold()
        while taken in self._files or hash(taken) in self._folders:
            number = self._next[key] = self._next.get(key, 1) + 1
            name = f"{folder}{stem} ({number}){ending}"
            taken = name.casefold()
        return name
