# SPDX-License-Identifier: Apache-2.0
"""Response bodies that are costly to make, and the queue of clients that wait for them.

Any number of clients may ask as often as they like, so a body serves all who ask at about the same time, and
bodies are handed out one after another, at a bounded rate.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Optional

__all__ = ["Busy", "Document", "Gone", "Queue"]

_FRESH_SECONDS = 1.0
_MAX_FRESH_SECONDS = 5.0
_FRESH_PER_COST = 20  # making a document over and over takes at most a twentieth of a core
_GZIP_LEVEL = 6  # 9 takes much longer and saves little
_MAX_WAITING = 24
_WAIT_SECONDS = 8.0  # Prometheus waits for 10
_LOOK_SECONDS = 0.02
_PER_SECOND = 50
_BURST = 50


class Busy(Exception):
    """Too many clients wait already, or the client has waited for too long."""


class Gone(ConnectionAbortedError):
    """The client closed the connection before its turn; nothing is left to do."""


class Document:
    """A response body that is kept for a second, or for longer (up to 5 s) if it takes long to make.

    Not thread-safe: ask for it in a ``Queue``.
    """

    def __init__(self, content_type: str, make: Callable[[], bytes]) -> None:
        self.content_type = content_type
        self._make = make
        self._plain = b""
        self._gzipped: Optional[bytes] = None
        self._stale_at = 0.0

    def body(self, gzipped: bool) -> bytes:
        """The body, made again if it is stale."""
        if time.monotonic() >= self._stale_at:
            self._plain, self._gzipped = b"", None  # frees their memory before more is needed
            began = time.thread_time()
            self._plain = self._make()
            cost = time.thread_time() - began
            fresh = min(max(_FRESH_SECONDS, _FRESH_PER_COST * cost), _MAX_FRESH_SECONDS)
            self._stale_at = time.monotonic() + fresh
        if not gzipped:
            return self._plain
        if self._gzipped is None:
            self._gzipped = gzip.compress(self._plain, _GZIP_LEVEL)
        return self._gzipped


class Queue:
    """Clients that wait for documents; they get them one after another, in the order of their arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[object] = deque()
        self._next = 0.0  # when the next client may be served

    def body(self, document: Document, gzipped: bool, is_gone: Callable[[float], bool]) -> bytes:
        """The body of a document.  Raises Busy or Gone.

        is_gone: waits for some seconds, or until the client closes its connection; returns whether it did.
        """
        me = object()
        with self._lock:
            if len(self._waiting) >= _MAX_WAITING:
                raise Busy
            self._waiting.append(me)
        try:
            self._wait(me, is_gone)
            return document.body(gzipped)  # nobody else makes one, as all others wait behind
        finally:
            with self._lock:
                self._waiting.remove(me)

    def _wait(self, me: object, is_gone: Callable[[float], bool]) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        pause = 0.0
        while not is_gone(pause):
            if self._is_my_turn(me):
                return
            if time.monotonic() >= deadline:
                raise Busy
            pause = _LOOK_SECONDS
        raise Gone

    def _is_my_turn(self, me: object) -> bool:
        now = time.monotonic()
        with self._lock:
            if self._waiting[0] is not me or now < self._next:
                return False
            self._next = max(self._next, now - _BURST / _PER_SECOND) + 1 / _PER_SECOND
            return True
