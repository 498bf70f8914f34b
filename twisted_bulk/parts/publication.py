"""The zips of a part: what earlier attempts and runs left, and how the finished ones are published.

The functions block.
"""

import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from twisted_bulk.archive.writer import Archive
from twisted_bulk.archive.zip_member import ZipMember
from twisted_bulk.batch.manifest_file import RUNNING, encode
from twisted_bulk.batch.model import Outcome, PartSpec, Zip, task_of
from twisted_bulk.batch.names import MANIFEST
from twisted_bulk.parts.state import PartState
from twisted_bulk.storage.names import DIGEST
from twisted_bulk.storage.workspace import Workspace


def zip_name(spec: PartSpec, volume: int, volumes: int) -> str:
    """The file name of a part's zip: of volume ``volume`` (from 1) of ``volumes``."""
    task_id = task_of(spec.batch)
    if spec.parts == volumes == 1:
        return f"{task_id}.zip"
    ending = f".part{spec.part:03}.zip" if volume == 1 else f".part{spec.part:03}-{volume}.zip"
    return task_id + ending


def members_there(part: PartState, archive: Archive, workspace: Workspace) -> list[ZipMember]:
    """Put members into the archive that need no fetching; returns these.

    They are left from an attempt that broke, or stand in zips of an earlier run of the batch.
    """
    there = archive.resume()
    names = {placed.name for placed in there}
    for one in part.previous:
        path = workspace.public / one.link
        if path.exists():  # else it is on another node
            there += archive.copy(path, _from_manifest(path, names))
    return there


def _from_manifest(path: Path, names: set[str]) -> Callable[[str], ZipMember | None]:
    """By a member's name: what the manifest in a zip says of it.

    Of members in ``names``, and of those without a checksum, that is None.
    """
    with zipfile.ZipFile(path) as found:
        manifest = msgspec.json.decode(found.read(MANIFEST), type=list[Outcome])
        modified = {info.filename: info.date_time for info in found.infolist()}
    outcomes = {outcome.name: outcome for outcome in manifest if outcome.sha256}

    def about(name: str) -> ZipMember | None:
        outcome = outcomes.get(name)
        if outcome is None or name in names:
            return None
        return ZipMember(
            name=name, volume=0, offset=0, method=0, crc=0, size=0, packed=0,
            modified=datetime(*modified[name], tzinfo=UTC).timestamp(), sha256=outcome.sha256,
            verified=outcome.status == "done", attempts=outcome.attempts,
        )  # fmt: skip

    return about


def publish(part: PartState, archive: Archive, workspace: Workspace) -> tuple[str, list[Zip]]:
    """Complete the zips, and make them visible with their manifest.

    A part without a good member, or of a batch that cannot succeed, has no zip.

    :returns: the name of the folder in ``public/``, and its zips
    """
    spec = part.spec
    part.renumber(archive.used())
    manifest = encode(part.outcomes)
    if part.done and part.failed <= spec.spare:
        closed = archive.close(MANIFEST, manifest, part.started)
    else:
        closed = archive.drop()
    notes, zips = {MANIFEST: manifest}, []
    for volume, found in enumerate(closed, 1):
        file = zip_name(spec, volume, len(closed))
        found.path.rename(archive.folder / file)
        notes[f"{file}{DIGEST}"] = f"{found.sha256}  {file}\n".encode()
        zips.append(Zip(file, found.size, found.sha256, found.members))
    (archive.folder / RUNNING).unlink(missing_ok=True)
    folder = workspace.publish(archive.folder, spec.batch, notes)
    return folder, [msgspec.structs.replace(one, link=f"{folder}/{one.link}") for one in zips]
