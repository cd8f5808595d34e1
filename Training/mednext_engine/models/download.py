"""Downloads that can be interrupted, resumed, cancelled and trusted.

A file is received under the name `<name>.part` and gets its own name only when it is complete and
its checksum is right. A broken connection is taken up again where it broke (HTTP range requests),
in this run or in the next one, as long as the server still has the same file.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import shutil
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DownloadError, OutputError, ResourceError
from ..monitor import Monitor
from .connection import POLL_SECONDS, Connection, Retry, host

TRIES = 5
MAX_BYTES = 64 * 2**30
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class RemoteFile:
    """What is known of a file before it is there; `size` in bytes, checksums as hex."""

    url: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


def download(
    remote: RemoteFile, target: Path, monitor: Monitor | None = None, *, pause: float = 1.0
) -> Path:
    """Downloads a file to `target`, resuming what an earlier attempt left.

    Args:
        remote: address and what is known of the file.
        target: final path; its folder is made.
        monitor: told the fraction received; its cancel is obeyed within a second, and what was
            received so far is kept for the next attempt.
        pause: seconds before the second try, doubled for each further one.

    Raises:
        DownloadError: not to be had, incomplete after several tries, or with a wrong checksum.
        ResourceError, OutputError: no room, or no permission.
    """
    monitor = monitor or Monitor()
    _check_url(remote.url, trusted=remote.sha256 is not None)
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _receive_all(remote, part, monitor, pause)
        _verify(remote, part, monitor)
        os.replace(part, target)
        _state_path(part).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from None
    return target


def _receive_all(remote: RemoteFile, part: Path, monitor: Monitor, pause: float) -> None:
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(remote, part, monitor)
            return
        except Retry as error:
            after = part.stat().st_size if part.exists() else 0
            failures = 1 if after > before else failures + 1
            if failures >= TRIES:
                raise DownloadError(
                    f"{host(remote.url)} could not be downloaded from: {error}.",
                    "Check the network connection and try again; what was received is kept.",
                ) from None
            _wait(pause * 2 ** (failures - 1), monitor)


def _receive(remote: RemoteFile, part: Path, monitor: Monitor) -> None:
    """One connection. Returns when the file is complete; raises Retry when it broke off."""
    have, headers = _resumable(remote, part)
    with Connection(remote.url, headers) as connection:
        response = connection.response(monitor)
        if response.status == 416:  # nothing beyond what is there
            total = _unsatisfied_total(response.headers.get("Content-Range", ""))
            if have and total == have:
                return
            part.unlink(missing_ok=True)
            raise Retry("the server's file changed")
        have, total = _agree(response, have)
        total = total or remote.size
        _check_size(remote, total, have, part)
        _write_state(part, remote, response.headers)
        with part.open("r+b" if have else "wb") as sink:
            sink.seek(have)
            sink.truncate()
            for piece in connection.pieces(monitor):
                sink.write(piece)
                have += len(piece)
                if have > (total or MAX_BYTES):
                    raise DownloadError("The server sends more than the file's size.")
                note = f"{have / 2**20:.0f} of {(total or 0) / 2**20:.0f} MiB"
                monitor.advance(min(have / total, 1.0) if total else 0.0, note)
    if total is not None and have < total:
        raise Retry(f"the connection broke off after {have:,} of {total:,} bytes")


def _resumable(remote: RemoteFile, part: Path) -> tuple[int, dict[str, str]]:
    """Bytes that can be kept of an earlier attempt, and the headers that ask for the rest."""
    plain = {"Accept-Encoding": "identity"}
    try:
        state = json.loads(_state_path(part).read_text("utf-8"))
        have = part.stat().st_size
    except (OSError, ValueError):
        return 0, plain
    known = isinstance(state, dict) and state.get("url") == remote.url
    same = known and state.get("sha256") == remote.sha256
    validator = state.get("validator") if same else None
    if not have or not same or not (validator or remote.sha256):
        return 0, plain
    headers = {**plain, "Range": f"bytes={have}-"}
    if isinstance(validator, str):
        headers["If-Range"] = validator  # otherwise the whole file comes, from its start
    return have, headers


def _agree(response: Any, asked: int) -> tuple[int, int | None]:
    """Where the answer starts, and the file's whole size if the server says it."""
    if response.status == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if match and int(match[1]) == asked:
            return asked, int(match[2]) if match[2] != "*" else None
        raise DownloadError("The server answered with another part of the file than asked for.")
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _unsatisfied_total(header: str) -> int | None:
    match = re.fullmatch(r"bytes \*/(\d+)", header.strip())
    return int(match[1]) if match else None


def _check_size(remote: RemoteFile, total: int | None, have: int, part: Path) -> None:
    if remote.size is not None and total is not None and total != remote.size:
        raise DownloadError(
            f"The file at {host(remote.url)} has {total:,} bytes instead of {remote.size:,}; "
            "it was changed since it was listed."
        )
    if total is not None and total > MAX_BYTES:
        raise DownloadError(f"The file is larger than {MAX_BYTES // 2**30} GiB.")
    if total is not None and shutil.disk_usage(part.parent).free < total - have + 2**26:
        raise ResourceError(
            f"The disk of {part.parent} has too little room for {total / 2**20:.0f} MiB."
        )


def _verify(remote: RemoteFile, part: Path, monitor: Monitor) -> None:
    digests = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    with part.open("rb") as stream:
        while piece := stream.read(2**20):
            monitor.check()
            for digest in digests.values():
                digest.update(piece)
    for name, expected in (("sha256", remote.sha256), ("md5", remote.md5)):
        if expected and digests[name].hexdigest() != expected.lower():
            part.unlink(missing_ok=True)
            _state_path(part).unlink(missing_ok=True)
            raise DownloadError(
                f"The file from {host(remote.url)} is not the one that was listed: "
                f"its {name.upper()} differs.",
                "It was deleted. Try again; if it happens again, the file was changed or damaged.",
            )


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _write_state(part: Path, remote: RemoteFile, headers: Any) -> None:
    """Remembers which version of the file this is, for a later attempt."""
    tag = headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    state = {"url": remote.url, "sha256": remote.sha256, "validator": validator}
    _state_path(part).write_text(json.dumps(state), "utf-8")


def _check_url(url: str, *, trusted: bool) -> None:
    """https; http only from this computer, or where a checksum decides. Raises DownloadError."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname and (trusted or _is_loopback(parts.hostname)):
        return
    raise DownloadError(f"'{url[:200]}' is not an address that models are downloaded from.")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wait(seconds: float, monitor: Monitor) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        monitor.check()
        time.sleep(min(POLL_SECONDS, seconds))
