"""The zips of a part: what earlier attempts and runs left, and how the finished ones are published.

The functions block.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from twisted_bulk.archive.writer import Archive
from twisted_bulk.archive.zip_member import ZipMember
from twisted_bulk.batch.manifest_file import RUNNING, encode, read_whole
from twisted_bulk.batch.masks import show
from twisted_bulk.batch.member_index import INDEX_FILE, MemberIndex, lines_of
from twisted_bulk.batch.model import Outcome, PartResult, PartSpec, Zip, task_of
from twisted_bulk.batch.names import MANIFEST, numbered
from twisted_bulk.batch.selection import Selection
from twisted_bulk.parts.state import PartState
from twisted_bulk.storage.names import DIGEST
from twisted_bulk.storage.workspace import Workspace


def zip_name(spec: PartSpec, volume: int, volumes: int) -> str:
    """The file name of a part's zip: of volume ``volume`` (from 1) of ``volumes``."""
    name = f"{spec.filename or task_of(spec.batch)}.zip"
    return name if spec.parts == volumes == 1 else numbered(name, _number(spec, volume))


def manifest_name(spec: PartSpec, volume: int, volumes: int) -> str:
    """The name of the manifest in that zip; empty: it has none.

    Unpacked into one folder, no two manifests of a batch have one name.
    """
    if not spec.manifest or spec.parts == volumes == 1:
        return spec.manifest
    return numbered(spec.manifest, _number(spec, volume))


def _number(spec: PartSpec, volume: int) -> str:
    return f"{spec.part:03}" if volume == 1 else f"{spec.part:03}-{volume}"


def members_there(part: PartState, archive: Archive, workspace: Workspace) -> dict[int, ZipMember]:
    """Put members into the archive that need no fetching; returns these by their numbers (from 0).

    They are left from an attempt that broke, or stand in zips of an earlier run of the batch.
    """
    # Older versions of the program wrote no numbers: there the names are those of the request.
    by_name = {name: number for number, name in enumerate(part.naming.names, 1)}
    there: dict[int, ZipMember] = {}

    def number_of(placed: ZipMember) -> int:
        """From 1; 0: it is none of these members, or has another URL now."""
        number = placed.number or by_name.get(placed.name, 0)
        if not 0 < number <= len(part.members) or number - 1 in there:
            return 0
        shown = show(part.members[number - 1].url, part.spec.show_urls)
        return number if placed.url in ("", shown) else 0

    for placed in archive.resume(lambda placed: number_of(placed) > 0):
        there[number_of(placed) - 1] = placed
    for one in part.previous:
        path = workspace.public / one.link
        if path.exists():  # else it is on another node
            wanted = {
                placed.name: msgspec.structs.replace(placed, number=number)
                for placed in _listed(path, part.spec)
                if placed.sha256 and (number := number_of(placed))
            }
            there |= {placed.number - 1: placed for placed in archive.copy(path, wanted.get)}
    return there


def keep_failed(part: PartState, previous: PartResult, wanted: Selection, public: Path) -> None:
    """Take over the results of members that failed in the run before and are not to be tried.

    Where the results of that run are on another node, all are tried.
    """
    path = public / previous.folder / MANIFEST
    if not path.exists():
        return
    for place, line in enumerate(read_whole(path)):
        outcome = msgspec.json.decode(line, type=Outcome | None)
        if outcome is None or outcome.status != "failed":
            continue
        # An older version of the program wrote no numbers.
        member = outcome.member or part.spec.first + place + 1
        outcome = msgspec.structs.replace(outcome, member=member)
        number = member - part.spec.first - 1
        if not wanted.matches(outcome) and 0 <= number < len(part.members):
            part.still_failed(number, outcome)


def _listed(path: Path, spec: PartSpec) -> Iterator[ZipMember]:
    """The members of a zip, as the manifest beside it tells of them."""
    for line in read_whole(path.parent / MANIFEST):
        outcome = msgspec.json.decode(line, type=Outcome)
        yield ZipMember.blank(
            outcome.name, 0.0, sha256=outcome.sha256, verified=outcome.status == "done",
            attempts=outcome.attempts, type=outcome.type, encoding=outcome.encoding,
            warning=outcome.warning, url=outcome.url,
            number=max(0, outcome.member - spec.first),
        )  # fmt: skip


def publish(part: PartState, archive: Archive, workspace: Workspace) -> tuple[str, list[Zip]]:
    """Complete the zips, and make them visible with their manifest.

    A part without a good member, or of a batch that cannot succeed, has no zip.

    :returns: the name of the folder in ``public/``, and its zips
    """
    spec = part.spec
    part.renumber(archive.used())
    manifest = encode(part.outcomes)
    if part.done and part.failed <= spec.spare:
        closed = archive.close(partial(manifest_name, spec), manifest, part.started)
    else:
        closed = archive.drop()
    index = MemberIndex.of(lines_of(manifest), spec.first)
    notes, zips = {MANIFEST: manifest, INDEX_FILE: index.encode()}, []
    for volume, found in enumerate(closed, 1):
        file = zip_name(spec, volume, len(closed))
        found.path.rename(archive.folder / file)
        notes[f"{file}{DIGEST}"] = f"{found.sha256}  {file}\n".encode()
        zips.append(Zip(file, found.size, found.sha256, found.members))
    (archive.folder / RUNNING).unlink(missing_ok=True)
    folder = workspace.publish(archive.folder, spec.batch, notes)
    return folder, [msgspec.structs.replace(one, link=f"{folder}/{one.link}") for one in zips]
