"""File names in an archive: safe on every system, and no two alike."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator

MANIFEST = "manifest.json"  # the usual name of the file of a zip that lists its members
MAX_PATH = 180  # characters of a path; Windows takes 260, with the folder that it is unpacked in
MAX_SEGMENT_BYTES = 200  # of UTF-8 in one path segment
MAX_ENDING = 20  # characters of an ending that is kept when a name is shortened
MAX_LEVELS = 32  # of folders, the file included; the lowest folders beyond are left out
MAX_LONG_FOLDER = 24  # characters of each folder in a path that would be too long
MAX_LOOKED_AT = 500  # characters of each end of a longer name, whose middle is dropped anyway
MAX_MARK = len(" (1000000)")  # characters of the number that tells a name from others
CUT = "~"  # stands where a name was shortened
SHARDS = 4  # folders that `sharded` puts before a name, of one letter each

#: Control characters, those that Windows refuses, marks that change the direction of text.
_UNSAFE = re.compile(
    '[\x00-\x1f\x7f-\x9f<>:"\\\\|?*\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]'
)
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?")


def fold(name: str) -> str:
    """``name``, which is composed, without case: what is alike then is one file on some disks."""
    if name.isascii():
        return name.lower()
    # Without case some letters are not composed any more: a long s with an accent.
    return unicodedata.normalize("NFC", name.casefold())


def split(name: str) -> tuple[str, str]:
    """The stem and the ending of a path's last segment; the ending has its dot, or is empty."""
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending) > MAX_ENDING or "/" in ending:
        return name, ""
    return stem, dot + ending


def _fit(stem: str, ending: str, most: int) -> str:
    """``stem`` and ``ending``, the stem without its middle where they would be too long.

    :param most: characters
    """
    return _shortened(stem, most - len(ending), MAX_SEGMENT_BYTES - len(ending.encode())) + ending


def _shortened(stem: str, room: int, size: int) -> str:
    """``stem`` without its middle, where it has more than ``room`` characters or ``size`` bytes."""
    if len(stem) <= room and len(stem.encode()) <= size:
        return stem
    room = max(2, min(room, len(stem)))
    while True:
        half = (room - len(CUT)) // 2
        short = f"{stem[: room - len(CUT) - half].rstrip()}{CUT}{stem[len(stem) - half :].lstrip()}"
        if len(short.encode()) <= size or room <= 2:
            return short
        room -= 1


def segment(text: str, most: int = MAX_PATH) -> str:
    """``text`` as one safe path segment; may be empty."""
    if len(text) > 2 * MAX_LOOKED_AT:  # it takes long to compose very many marks
        text = text[:MAX_LOOKED_AT] + text[-MAX_LOOKED_AT:]
    text = _UNSAFE.sub("_", unicodedata.normalize("NFC", text)).strip(" ").rstrip(". ")
    if not text.strip("."):
        return ""
    if _RESERVED.fullmatch(text):
        text = "_" + text
    return _fit(*split(text), most)


def safe(name: str, most: int = MAX_PATH) -> str:
    """``name`` as a relative path that is safe; may be empty.

    Slashes separate folders. ``..``, drive letters and the slash of an absolute path lose their
    meaning. A path has at most :data:`MAX_LEVELS` levels.

    :param most: characters
    """
    parts = list(filter(None, map(segment, name.replace("\\", "/").split("/"))))
    if len(parts) > MAX_LEVELS:
        parts = [*parts[: MAX_LEVELS - 1], parts[-1]]
    if len("/".join(parts)) > most:
        folders = [_fit(folder, "", MAX_LONG_FOLDER) for folder in parts[:-1]]
        last = _fit(*split(parts[-1]), most * 2 // 3 if folders else most)
        while len("/".join([*folders, last])) > most:
            folders.pop()
        parts = [*folders, last]
    return "/".join(parts)


def sharded(name: str) -> str:
    """``name`` in four folders, named by the first four hexadecimal digits of its SHA-1."""
    digits = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
    return "/".join([*digits[:SHARDS], name])


def numbered(name: str, number: str) -> str:
    """``name`` with a part's number before its ending: ``manifest.part001.json``."""
    stem, ending = split(name)
    return f"{stem}.part{number}{ending}"


def folders_of(name: str) -> Iterator[str]:
    """The folders of a path, the highest first."""
    at = name.find("/")
    while at >= 0:
        yield name[:at]
        at = name.find("/", at + 1)


class Names:
    """The names that are taken in one archive.

    Gives each name once: ``a (2).wav`` after ``a.wav``. Upper and lower case are one name, and so
    are composed and decomposed letters, because they are on Windows and macOS. A file and a folder
    never have one name: after ``a``, ``a/b`` becomes ``a (2)/b``.

    :param manifest: the name of the manifests, which no other file gets; empty: there are none
    """

    def __init__(self, manifest: str = MANIFEST) -> None:
        self._files: set[str] = set()
        self._folders: set[int] = set()  # hashes of them: many long names would need much memory
        self._renamed: dict[str, str] = {}
        self._next: dict[str, int] = {}
        stem, ending = map(re.escape, split(fold(manifest)))
        self._manifests = re.compile(rf"{stem}(\.part\d+(-\d+)?)?{ending}") if manifest else None

    def _is_taken(self, key: str) -> bool:
        if self._manifests is not None and self._manifests.fullmatch(key):
            return True
        return key in self._files or hash(key) in self._folders

    def take(self, wanted: str) -> str:
        """Take ``wanted``, or the nearest name that is free; returns the name that was taken."""
        folder, _, last = (wanted or "file").rpartition("/")
        name = self._free(self._folder(folder), *split(last))
        self._files.add(fold(name))
        return name

    def add(self, name: str) -> None:
        """A file has this name already."""
        for folder in folders_of(name):
            self._folders.add(hash(fold(folder)))
        self._files.add(fold(name))

    def release(self, name: str) -> None:
        """A file has another name after all."""
        self._files.discard(fold(name))

    def lose_folder(self, name: str) -> None:
        """A folder that was taken is a file elsewhere: its files have to be taken anew."""
        self._folders.discard(hash(fold(name)))
        self._files.add(fold(name))
        for wanted, found in list(self._renamed.items()):
            if found.startswith(f"{name}/"):
                del self._renamed[wanted]

    def skip_to(self, wanted: str, number: int) -> None:
        """Further files that want this name get numbers from ``number`` on."""
        folder, _, last = wanted.rpartition("/")
        stem, ending = split(last)
        key = fold(self._numbered(self._folder(folder), stem, ending, ""))
        self._next[key] = max(self._next.get(key, 1), number - 1)

    def _folder(self, wanted: str) -> str:
        """The folder in place of ``wanted``, with a slash at its end, or empty."""
        if not wanted:
            return ""
        key = fold(wanted)
        if key in self._renamed:
            return self._renamed[key]
        above, _, last = wanted.rpartition("/")
        name = self._folder(above) + last
        if hash(fold(name)) not in self._folders:
            if self._is_taken(fold(name)):
                name = self._free(name[: len(name) - len(last)], last, "")
                self._renamed[key] = name + "/"
            self._folders.add(hash(fold(name)))
        return name + "/"

    def _free(self, folder: str, stem: str, ending: str) -> str:
        name = f"{folder}{stem}{ending}"
        if not self._is_taken(fold(name)):
            return name
        # Long names that differ in their middle only share numbers: they are shortened for these.
        key = fold(self._numbered(folder, stem, ending, ""))
        while self._is_taken(fold(name)):
            number = self._next[key] = self._next.get(key, 1) + 1
            name = self._numbered(folder, stem, ending, f" ({number})")
        return name

    @staticmethod
    def _numbered(folder: str, stem: str, ending: str, mark: str) -> str:
        """A name with a number, which may have up to :data:`MAX_MARK` characters."""
        room = MAX_PATH - len(folder) - len(ending) - MAX_MARK
        size = MAX_SEGMENT_BYTES - len(ending.encode()) - MAX_MARK
        return f"{folder}{_shortened(stem, room, size)}{mark}{ending}"
