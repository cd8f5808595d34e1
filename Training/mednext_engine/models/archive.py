"""Zip files of models: read within bounds and inside their folder, written reproducibly.

Two layouts are read: nnU-Net's own export (`DatasetXXX/<trainer>__<plans>__<config>/...`) and a
plain model folder at any depth. Only the files that make up a model are taken out, under names
that are ours; but an archive in which *any* name is hostile is refused as a whole.
"""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ..errors import ModelError, ResourceError
from ..monitor import Monitor
from .folder import choose_folder
from .layout import is_model_file

MAX_MEMBERS = 100_000
MAX_TOTAL_BYTES = 64 * 2**30
MAX_RATIO = 200
SMALL_BYTES = 16 * 2**20  # text compresses well, so the ratio counts only above this
PIECE = 2**20
EPOCH = (1980, 1, 1, 0, 0, 0)


def extract_model(
    source: Path, target: Path, *, configuration: str | None = None, monitor: Monitor | None = None
) -> PurePosixPath:
    """Takes one model out of a zip file into the existing folder `target`.

    Returns:
        The path of the model's folder inside the archive ("." at its root).

    Raises:
        ModelError: truncated, encrypted, hostile (names, links, sizes), or without a model.
        ResourceError: the disk has too little room.
    """
    monitor = monitor or Monitor()
    try:
        with zipfile.ZipFile(source) as archive:
            members = _checked_members(archive, source.name)
            folder = _model_folder(members, configuration, source.name)
            chosen = _chosen_members(members, folder)
            total = sum(m.file_size for m in chosen.values())
            if shutil.disk_usage(target).free < total + 2**26:
                raise ResourceError(
                    f"The disk of {target.parent} has too little room: the model takes "
                    f"{total / 2**20:.0f} MiB."
                )
            done = 0
            for relative, member in chosen.items():
                done = _extract(archive, member, target / relative, done, total, monitor)
            return folder
    except (zipfile.BadZipFile, EOFError, zlib.error, struct.error):
        raise ModelError(
            f"{source.name} is truncated, damaged or no zip file.", "Download or copy it again."
        ) from None
    except NotImplementedError:
        raise ModelError(f"{source.name} is compressed in a way that is not supported.") from None


def _checked_members(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise ModelError(f"{name} holds more than {MAX_MEMBERS} files.")
    if infos and min(info.header_offset for info in infos) != 0:
        # The table of contents is that of a checkpoint (a zip too) at a truncated file's end.
        raise zipfile.BadZipFile
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        # zipfile cuts names at a NUL byte, so the name as written is looked at.
        if _hostile(info.orig_filename):
            raise ModelError(
                f"{name} was not opened, because it holds the path '{_printable(info)}', "
                "which leads out of its folder.",
                "Do not use this model unless you trust its origin.",
            )
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ModelError(
                f"{name} was not opened, because '{_printable(info)}' is a link or a special file."
            )
        if info.flag_bits & 0x1:
            raise ModelError(f"{name} is protected by a password.")
        if info.is_dir():
            continue
        if info.filename in members:
            raise ModelError(f"{name} holds two files called '{_printable(info)}'.")
        members[info.filename] = info
    return members


def _hostile(path: str) -> bool:
    parts = path.split("/")
    return (
        path.startswith(("/", "~"))
        or "\\" in path
        or ":" in parts[0][:2]
        or ".." in parts
        or any(ord(c) < 32 for c in path)
    )


def _printable(info: zipfile.ZipInfo) -> str:
    return "".join(c if c.isprintable() else "?" for c in info.orig_filename)[:100]


def _model_folder(
    members: Mapping[str, zipfile.ZipInfo], configuration: str | None, name: str
) -> PurePosixPath:
    paths = [PurePosixPath(m) for m in members]
    found = [p.parent for p in paths if p.name == "plans.json" and "__MACOSX" not in p.parts]
    if not found:
        raise ModelError(
            f"{name} holds no model: there is no plans.json in it.",
            "Models of nnU-Net's first version cannot be used.",
        )
    return choose_folder(found, configuration)


def _chosen_members(
    members: Mapping[str, zipfile.ZipInfo], folder: PurePosixPath
) -> dict[str, zipfile.ZipInfo]:
    """Relative path inside the model -> member; sizes checked."""
    prefix = "" if folder == PurePosixPath(".") else f"{folder}/"
    chosen = {
        path[len(prefix) :]: info
        for path, info in sorted(members.items())
        if path.startswith(prefix) and is_model_file(path[len(prefix) :])
    }
    if sum(info.file_size for info in chosen.values()) > MAX_TOTAL_BYTES:
        raise ModelError(f"The model would take more than {MAX_TOTAL_BYTES // 2**30} GiB.")
    for info in chosen.values():
        if info.file_size > SMALL_BYTES and info.file_size > MAX_RATIO * info.compress_size:
            raise ModelError(
                f"'{_printable(info)}' was not unpacked, because it would grow more than "
                f"{MAX_RATIO} times, which weights never do."
            )
    return chosen


def _extract(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    target: Path,
    done: int,
    total: int,
    monitor: Monitor,
) -> int:
    """Writes one member; returns the bytes written so far. Reading checks size and CRC."""
    target.parent.mkdir(exist_ok=True)
    with archive.open(member) as source, target.open("xb") as sink:
        while piece := source.read(PIECE):
            done += len(piece)
            if done > total:
                raise ModelError(f"'{_printable(member)}' holds more than it says.")
            sink.write(piece)
            monitor.advance(done / max(total, 1))
    return done


def write_zip(
    target: Path, files: Mapping[str, Path], *, folder: str, monitor: Monitor | None = None
) -> None:
    """Writes files (relative path -> where it lies) below `folder` into a zip.

    The same content gives the same bytes: sorted, no times, no owners, stored as they are (weights
    hardly compress). The caller moves the finished file to its place.
    """
    monitor = monitor or Monitor()
    total = max(sum(path.stat().st_size for path in files.values()), 1)
    done = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for relative in sorted(files):
            info = zipfile.ZipInfo(f"{folder}/{relative}", EPOCH)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.file_size = files[relative].stat().st_size
            with archive.open(info, "w") as sink, files[relative].open("rb") as source:
                while piece := source.read(PIECE):
                    sink.write(piece)
                    done += len(piece)
                    monitor.advance(done / total)
