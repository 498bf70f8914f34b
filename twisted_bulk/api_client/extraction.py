"""Unpacks the zips of a batch into a folder, and never over other files."""

import json
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from twisted_bulk.api_client.failures import DownloadFailed

PIECE_BYTES = 1 << 20
#: What zipfile raises for a zip that is damaged, encrypted, or packed in an unknown way.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeError)
MANIFEST_KEYS = {"url", "status", "code", "sha256"}  # of each of its lines, and others
_PART = re.compile(r"\.part[0-9]+(?=\.json$|$)")  # of the names of several zips of a batch
MAX_MANIFEST_BYTES = 64 << 20  # of one that is read


def extract(zips: Sequence[Path], folder: Path, *, force: bool = False) -> int:
    """Unpack zips; returns how many files they have, without their manifests.

    A file that is there already and is the one of the zip stays. The manifests of all zips become
    one, which replaces an earlier one of the same batch.

    :param force: other files of these names are replaced
    :raises DownloadFailed: a file of this name is there, and is another one, so that nothing was
        unpacked; or a zip cannot be read
    """
    try:
        return _extract(zips, folder, force)
    except _BROKEN as error:
        raise DownloadFailed("bad_zip", f"a zip cannot be unpacked: {error}") from None


def _extract(zips: Sequence[Path], folder: Path, force: bool) -> int:
    with ExitStack() as stack:
        archives = [stack.enter_context(zipfile.ZipFile(path)) for path in zips]
        files = list[tuple[zipfile.ZipFile, zipfile.ZipInfo]]()
        manifests: dict[Path, list[dict[str, Any]]] = {}
        for archive in archives:
            found = [one for one in archive.infolist() if not one.is_dir()]
            lines = _manifest(archive.read(found[-1])) if _may_be_manifest(found) else None
            if lines is not None:  # it is the last one of its zip
                name = _PART.sub("", found.pop().filename)
                manifests.setdefault(_target(folder, name), []).extend(lines)
            files += [(archive, one) for one in found]
        # All are looked at before the first one is written.
        for archive, one in [pair for pair in files if _is_missing(pair[1], folder, force)]:
            _write(archive, one, _target(folder, one.filename))
    stem = _PART.sub("", zips[0].stem) if zips else ""
    for path, lines in manifests.items():
        _write_manifest(path, lines, stem, force)
    return len(files)


def _may_be_manifest(found: Sequence[zipfile.ZipInfo]) -> bool:
    """Whether the last file of a zip can be one."""
    if not found:
        return False
    return found[-1].filename.endswith(".json") and found[-1].file_size <= MAX_MANIFEST_BYTES


def _manifest(text: bytes) -> list[dict[str, Any]] | None:
    """The lines of a manifest; None: this file is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not found:
        return None
    is_one = all(isinstance(line, dict) and line.keys() >= MANIFEST_KEYS for line in found)
    return found if is_one else None


def _write_manifest(path: Path, lines: list[dict[str, Any]], stem: str, force: bool) -> None:
    """Write a manifest. Another file of its name, as of another batch, is not replaced.

    :param stem: the name of the batch's zip, which the manifest then has in its own
    """
    if path.exists() and not force:
        old = _manifest(path.read_bytes()) if path.is_file() else None
        known = {line["url"] for line in old or ()}
        if not any(line["url"] in known for line in lines):
            path = path.with_name(f"{path.stem} {stem}.json")
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(json.dumps(lines, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(new, path)


def _is_missing(one: zipfile.ZipInfo, folder: Path, force: bool) -> bool:
    path = _target(folder, one.filename)
    if not path.exists():
        return True
    if _is_same(path, one):
        return False
    if not force:
        raise DownloadFailed("file_exists", f"{path} is there, and is another file")
    return True


def _target(folder: Path, name: str) -> Path:
    """Where a member goes.

    :raises DownloadFailed: its name leads out of the folder
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name:
        raise DownloadFailed("checksum_mismatch", f"{name!r} leads out of the folder")
    return folder.joinpath(*path.parts)


def _is_same(path: Path, one: zipfile.ZipInfo) -> bool:
    """Whether a file has the size and the CRC of a member."""
    if not path.is_file() or path.stat().st_size != one.file_size:
        return False
    crc = 0
    with open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            crc = zlib.crc32(piece, crc)
    return crc == one.CRC


def _write(archive: zipfile.ZipFile, one: zipfile.ZipInfo, path: Path) -> None:
    """Write a member, whole or not at all; its CRC is checked as it is read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        with archive.open(one) as source, open(new, "wb") as file:
            while piece := source.read(PIECE_BYTES):
                file.write(piece)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
