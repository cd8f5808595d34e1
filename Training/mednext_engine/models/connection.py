"""One HTTP request that can be cancelled at any time, over safe addresses only."""

from __future__ import annotations

import contextlib
import http.client
import queue
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .. import __version__
from ..errors import DownloadError
from ..monitor import Monitor

PIECE = 2**18
POLL_SECONDS = 0.2
TIMEOUT_SECONDS = 30.0


class Retry(Exception):
    """The connection failed in a way that may pass."""


def host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or "the address"


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    """Follows redirections to the web only, and never from https to http."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        secure = urllib.parse.urlsplit(req.full_url).scheme == "https"
        allowed = ("https",) if secure else ("http", "https")
        if urllib.parse.urlsplit(newurl).scheme not in allowed:
            raise DownloadError(f"The server leads to an unsafe address: {newurl[:200]}.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        import certifi  # some Pythons, Slicer's among them, come without certificates

        context.load_verify_locations(certifi.where())
    return urllib.request.build_opener(
        _SafeRedirect(), urllib.request.HTTPSHandler(context=context)
    )


@dataclass(frozen=True)
class _Failure:
    """An error on its way from the connection's thread to the caller's."""

    error: Exception


class Connection:
    """One request in a thread of its own, so that cancelling never waits for the network."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        headers = {"User-Agent": f"MedNeXtSeg/{__version__}", **headers}
        self._request = urllib.request.Request(url, headers=headers)
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=16)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Connection:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def response(self, monitor: Monitor) -> Any:
        return self._next(monitor)

    def pieces(self, monitor: Monitor) -> Iterator[bytes]:
        while (item := self._next(monitor)) is not None:
            yield item

    def _next(self, monitor: Monitor) -> Any:
        while True:
            monitor.check()
            try:
                item = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, _Failure):
                raise item.error
            return item

    def _put(self, item: Any) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                return self._queue.put(item, timeout=POLL_SECONDS)

    def _run(self) -> None:
        try:
            with self._open() as response:
                self._put(response)
                while not self._stop.is_set() and (piece := response.read(PIECE)):
                    self._put(piece)
            self._put(None)
        except (DownloadError, Retry) as error:
            self._put(_Failure(error))
        except urllib.error.URLError as error:
            self._put(_Failure(Retry(str(error.reason))))
        except (OSError, http.client.HTTPException) as error:
            self._put(_Failure(Retry(str(error) or type(error).__name__)))

    def _open(self) -> Any:
        try:
            return _opener().open(self._request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code == 416:
                return error
            if error.code in (408, 429) or error.code >= 500:
                raise Retry(f"the server answered {error.code} {error.reason}") from None
            raise DownloadError(
                f"{host(self._request.full_url)} refuses the file ({error.code} {error.reason}).",
                "The model may have moved; see its home page.",
            ) from None
