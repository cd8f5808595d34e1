"""Downloads from a small web server of our own that breaks off, changes its file, or lies."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import model_fixtures as given
import pytest

from mednext_engine.errors import Cancelled, DownloadError, ModelError, OutputError, ResourceError
from mednext_engine.models import catalogue
from mednext_engine.models import download as module
from mednext_engine.models.catalogue import download_model, find_entry, read_catalogue
from mednext_engine.models.download import RemoteFile, download
from mednext_engine.models.store import list_models, verify_model
from mednext_engine.monitor import Monitor

CONTENT = bytes(range(256)) * 8192  # 2 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` at every path; its attributes say how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag = CONTENT, '"1"'
        self.ranges = True
        self.breaks: list[int] = []  # bytes after which each coming answer breaks off
        self.answers: list[int] = []  # status codes of the coming answers
        self.stall = threading.Event()
        self.stalls_after: int | None = None
        self.location = ""
        self.length = True
        self.requests: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/model.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        return None

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers))
        if server.answers:
            self.send_response(server.answers.pop(0))
            if server.location:
                self.send_header("Location", server.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = self._start()
        body = server.content[start:]
        if start and not body:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            total = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        self._send(body)

    def _start(self) -> int:
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range", self.server.tag)
        if not asked or not self.server.ranges or condition != self.server.tag:
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _send(self, body: bytes) -> None:
        server = self.server
        if server.breaks:
            body = body[: server.breaks.pop(0)]
        if server.stalls_after is not None:
            self.wfile.write(body[: server.stalls_after])
            server.stall.wait(20)
            return
        self.wfile.write(body)
        self.close_connection = True


@pytest.fixture
def a_server(monkeypatch: Any) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.stall.set()
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(server: Server, target: Path, **known: Any) -> Path:
    return download(RemoteFile(server.url, **known), target, pause=0.01)


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_arrives(tmp_path: Path, a_server: Server) -> None:
    target = tmp_path / "Köpfe" / "m.zip"
    fetch(a_server, target, sha256=SHA256, size=len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert files(target.parent) == ["m.zip"]


def test_progress_is_told(tmp_path: Path, a_server: Server) -> None:
    seen: list[float] = []
    notes: list[str] = []
    monitor = Monitor(report=lambda p: (seen.append(p.fraction), notes.append(p.note)))
    download(RemoteFile(a_server.url), tmp_path / "m.zip", monitor)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert notes[-1] == "2 of 2 MiB"


def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path: Path, a_server: Server) -> None:
    a_server.breaks = [1_000_000, 300_000]
    fetch(a_server, tmp_path / "m.zip", sha256=SHA256)
    assert (tmp_path / "m.zip").read_bytes() == CONTENT
    ranges = [r.get("Range") for r in a_server.requests]
    assert ranges == [None, "bytes=1000000-", "bytes=1300000-"]
    assert a_server.requests[1]["If-Range"] == '"1"'


def test_a_server_without_ranges_starts_anew(tmp_path: Path, a_server: Server) -> None:
    a_server.ranges = False
    a_server.breaks = [1_000_000]
    fetch(a_server, tmp_path / "m.zip", sha256=SHA256)
    assert (tmp_path / "m.zip").read_bytes() == CONTENT
    assert len(a_server.requests) == 2


def test_without_tag_and_checksum_nothing_is_taken_up(tmp_path: Path, a_server: Server) -> None:
    a_server.tag = ""
    a_server.breaks = [1_000_000]
    fetch(a_server, tmp_path / "m.zip")
    assert [r.get("Range") for r in a_server.requests] == [None, None]
    assert (tmp_path / "m.zip").read_bytes() == CONTENT


def test_a_file_that_changes_meanwhile_is_fetched_anew(tmp_path: Path, a_server: Server) -> None:
    a_server.breaks = [1_000_000] * module.TRIES
    a_server.ranges = False  # so that all tries of the first call fail at the same place
    with pytest.raises(DownloadError, match="broke off after 1,000,000"):
        fetch(a_server, tmp_path / "m.zip")
    a_server.ranges, a_server.breaks = True, []
    a_server.content, a_server.tag = CONTENT[::-1], '"2"'
    fetch(a_server, tmp_path / "m.zip")
    assert (tmp_path / "m.zip").read_bytes() == CONTENT[::-1]


def test_what_was_received_is_never_taken_for_the_file(tmp_path: Path, a_server: Server) -> None:
    a_server.breaks = [1_000_000] + [0] * 10
    with pytest.raises(DownloadError, match="broke off after 1,000,000 of 2,097,152"):
        fetch(a_server, tmp_path / "m.zip", sha256=SHA256)
    assert files(tmp_path) == ["m.zip.part", "m.zip.part.json"]
    a_server.breaks = []
    fetch(a_server, tmp_path / "m.zip", sha256=SHA256)
    assert a_server.requests[-1]["Range"] == "bytes=1000000-"
    assert (tmp_path / "m.zip").read_bytes() == CONTENT
    assert files(tmp_path) == ["m.zip"]


def test_a_complete_part_is_only_checked(tmp_path: Path, a_server: Server) -> None:
    """The last run was killed between the last byte and the new name."""
    (tmp_path / "m.zip.part").write_bytes(CONTENT)
    state = {"url": a_server.url, "sha256": SHA256, "validator": '"1"'}
    (tmp_path / "m.zip.part.json").write_text(json.dumps(state))
    fetch(a_server, tmp_path / "m.zip", sha256=SHA256)
    assert (tmp_path / "m.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("state", ["", "[]", "{", '{"url": "https://elsewhere", "validator": 1}'])
def test_a_strange_part_is_not_used(tmp_path: Path, a_server: Server, state: str) -> None:
    (tmp_path / "m.zip.part").write_bytes(b"x" * 1000)
    (tmp_path / "m.zip.part.json").write_text(state)
    fetch(a_server, tmp_path / "m.zip", sha256=SHA256)
    assert a_server.requests[0].get("Range") is None
    assert (tmp_path / "m.zip").read_bytes() == CONTENT


def test_a_killed_process_resumes(tmp_path: Path, a_server: Server) -> None:
    a_server.stalls_after = 700_000
    code = "import sys; from pathlib import Path; "
    code += "from mednext_engine.models.download import RemoteFile, download; "
    code += "download(RemoteFile(sys.argv[1], sha256=sys.argv[2]), Path(sys.argv[3]))"
    target = tmp_path / "m.zip"
    arguments = [sys.executable, "-c", code, a_server.url, SHA256, str(target)]
    process = subprocess.Popen(arguments)
    part = tmp_path / "m.zip.part"
    for _ in range(200):
        if part.exists() and part.stat().st_size >= 262_144:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not target.exists()
    a_server.stalls_after = None
    have = part.stat().st_size
    assert have >= 262_144
    fetch(a_server, target, sha256=SHA256)
    assert a_server.requests[-1]["Range"] == f"bytes={have}-"
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["sha256", "md5"])
def test_a_wrong_checksum_deletes_the_file(tmp_path: Path, a_server: Server, name: str) -> None:
    wrong = {"sha256": "0" * 64, "md5": "0" * 32}[name]
    with pytest.raises(DownloadError, match=f"its {name.upper()} differs"):
        fetch(a_server, tmp_path / "m.zip", **{name: wrong})
    assert files(tmp_path) == []


def test_another_size_than_listed(tmp_path: Path, a_server: Server) -> None:
    with pytest.raises(DownloadError, match="2,097,152 bytes instead of 5"):
        fetch(a_server, tmp_path / "m.zip", size=5)
    assert not (tmp_path / "m.zip").exists()


def test_a_server_that_never_stops_sending(tmp_path: Path, a_server: Server) -> None:
    a_server.length = False
    with pytest.raises(DownloadError, match="sends more than"):
        fetch(a_server, tmp_path / "m.zip", size=1_000_000)
    assert not (tmp_path / "m.zip").exists()


def test_errors_that_pass_are_tried_again(tmp_path: Path, a_server: Server) -> None:
    a_server.answers = [503, 429, 500]
    fetch(a_server, tmp_path / "m.zip", sha256=SHA256)
    assert len(a_server.requests) == 4


def test_errors_that_do_not_pass(tmp_path: Path, a_server: Server) -> None:
    a_server.answers = [404]
    with pytest.raises(DownloadError, match=r"refuses the file .404"):
        fetch(a_server, tmp_path / "m.zip")
    assert len(a_server.requests) == 1
    assert files(tmp_path) == []


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="could not be downloaded from"):
        download(RemoteFile("http://127.0.0.1:9/m.zip"), tmp_path / "m.zip", pause=0.01)


def test_cancelling_does_not_wait_for_a_silent_server(tmp_path: Path, a_server: Server) -> None:
    a_server.stalls_after = 100_000
    monitor = Monitor()
    timer = threading.Timer(0.5, monitor.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        download(RemoteFile(a_server.url), tmp_path / "m.zip", monitor)
    assert time.monotonic() - started < 2.0
    assert not (tmp_path / "m.zip").exists()


@pytest.mark.parametrize(
    "url", ["ftp://a/m.zip", "file:///etc/passwd", "http://example.org/m.zip", "https:///x", "x"]
)
def test_addresses_that_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="not an address"):
        download(RemoteFile(url), tmp_path / "m.zip")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/m.zip"])
def test_redirections_that_are_refused(tmp_path: Path, a_server: Server, location: str) -> None:
    a_server.answers, a_server.location = [302], location
    with pytest.raises(DownloadError, match=r"unsafe address|not allowed"):
        fetch(a_server, tmp_path / "m.zip")


def test_a_full_disk(tmp_path: Path, a_server: Server, monkeypatch: Any) -> None:
    full = module.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: full)
    with pytest.raises(ResourceError, match="too little room"):
        fetch(a_server, tmp_path / "m.zip")


def test_no_permission(tmp_path: Path, a_server: Server) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        fetch(a_server, tmp_path / "file" / "m.zip")


# The catalogue


def an_entry(server: Server, **changes: Any) -> dict[str, Any]:
    return {
        "id": "liver-ct",
        "title": "Liver on CT",
        "description": "Liver and tumour.",
        "modality": "CT",
        "channels": ["CT"],
        "labels": ["liver", "tumour"],
        "license": "CC-BY-4.0",
        "citation": "Doe 2024",
        "homepage": "https://example.org",
        "network": "PlainConvUNet",
        "configuration": "3d_fullres",
        "files": [{"url": server.url, "size": None, "sha256": None}],
        "verified": False,
        **changes,
    }


def a_catalogue(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "catalogue.json"
    path.write_text(json.dumps({"format": 1, "models": list(entries)}), "utf-8")
    return path


@pytest.fixture
def a_packed_model(tmp_path: Path, a_server: Server, monkeypatch: Any) -> Path:
    monkeypatch.setenv("MEDNEXT_MODELS", str(tmp_path / "models"))
    (tmp_path / "shipped" / "Models").mkdir(parents=True)
    monkeypatch.setenv("MEDNEXT_RESOURCES", str(tmp_path / "shipped"))
    folder = given.write_folder(tmp_path / "source")
    pack = tmp_path / "m.zip"
    with zipfile.ZipFile(pack, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            archive.write(path, f"Dataset007_X/nnUNetTrainer__nnUNetPlans__3d_fullres/{name}")
    a_server.content = pack.read_bytes()
    return pack


def test_a_model_of_the_catalogue_is_installed(
    tmp_path: Path, a_server: Server, a_packed_model: Path
) -> None:
    a_server.breaks = [10_000]
    entry = find_entry("liver-ct", a_catalogue(tmp_path, an_entry(a_server)))
    seen: list[float] = []
    model = download_model(entry, Monitor(report=lambda p: seen.append(p.fraction)))
    assert (model.id, model.card.title, model.card.license) == (
        "liver-ct",
        "Liver on CT",
        "CC-BY-4.0",
    )
    assert verify_model(model).ok
    assert seen == sorted(seen)
    assert files(tmp_path / "models") == ["liver-ct"]
    with pytest.raises(ModelError, match="installed already"):
        download_model(entry)
    assert download_model(entry, replace_existing=True).id == "liver-ct"


def test_an_interrupted_download_is_no_model_and_is_taken_up(
    tmp_path: Path, a_server: Server, a_packed_model: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "TRIES", 1)
    a_server.breaks = [10_000]
    entry = find_entry("liver-ct", a_catalogue(tmp_path, an_entry(a_server)))
    with pytest.raises(DownloadError, match="broke off"):
        download_model(entry)
    assert list_models() == []
    download_model(entry)
    assert a_server.requests[-1]["Range"] == "bytes=10000-"
    assert [m.id for m in list_models()] == ["liver-ct"]


def test_a_truncated_zip_of_unknown_size_is_no_model(
    tmp_path: Path, a_server: Server, a_packed_model: Path
) -> None:
    """Without a length and a checksum only the archive itself can tell."""
    a_server.length = False
    a_server.content = a_server.content[:-1000]
    entry = find_entry("liver-ct", a_catalogue(tmp_path, an_entry(a_server)))
    with pytest.raises(ModelError, match="truncated, damaged"):
        download_model(entry)
    assert list_models() == []
    a_server.content = a_packed_model.read_bytes()
    assert download_model(entry).id == "liver-ct"


def test_a_model_of_single_files(tmp_path: Path, a_server: Server, a_packed_model: Path) -> None:
    source = tmp_path / "source"
    names = ["dataset.json", "plans.json", "fold_0/checkpoint_final.pth"]
    contents = {f"/{n}": (source / n).read_bytes() for n in names}
    real = Handler.do_GET

    def do_get(handler: Handler) -> None:
        handler.server.content = contents[handler.path]
        real(handler)

    entry = an_entry(
        a_server,
        files=[
            {"url": a_server.url.replace("/model.zip", f"/{n}"), "path": n, "size": len(c)}
            for n, c in zip(names, contents.values(), strict=True)
        ],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handler, "do_GET", do_get)
        model = download_model(find_entry("liver-ct", a_catalogue(tmp_path, entry)))
    assert model.weights("0")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "../evil"}, "'id'"),
        ({"license": None}, "'license'"),
        ({"files": []}, "neither one zip"),
        ({"files": [{"url": "file:///etc/passwd"}]}, "https"),
        ({"files": [{"url": "https://a/b", "sha256": "123"}]}, "checksum"),
        ({"files": [{"url": "https://a/b", "path": "../x"}]}, "not a file of a model"),
        ({"files": [{"url": "https://a/b", "size": -1}]}, "size"),
        ({"verified": "yes"}, "verified"),
    ],
)
def test_impossible_entries(
    tmp_path: Path, a_server: Server, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises((ModelError, DownloadError), match=words):
        read_catalogue(a_catalogue(tmp_path, an_entry(a_server, **changes)))


def test_two_entries_of_one_id(tmp_path: Path, a_server: Server) -> None:
    with pytest.raises(ModelError, match="share an id"):
        read_catalogue(a_catalogue(tmp_path, an_entry(a_server), an_entry(a_server)))


def test_searching(tmp_path: Path, a_server: Server) -> None:
    other = an_entry(a_server, id="brain", title="Brain", modality="MR", labels=["cortex"])
    entries = read_catalogue(a_catalogue(tmp_path, an_entry(a_server), other))
    assert [e.id for e in catalogue.search(entries, "ct TUMOUR")] == ["liver-ct"]
    assert [e.id for e in catalogue.search(entries, "cortex")] == ["brain"]
    assert len(catalogue.search(entries, "")) == 2
