# SPDX-License-Identifier: Apache-2.0
"""agent.serve.documents: how often a document is made, and who waits for it."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from agent.serve import documents
from agent.serve.documents import Busy, Document, Gone, Queue


class Maker:
    """Makes a document that says how often it was made; waits while ``go_on`` is not set."""

    def __init__(self) -> None:
        self.made = 0
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.document = Document("text/plain", self._make)

    def _make(self) -> bytes:
        self.made += 1
        self.began.set()
        assert self.go_on.wait(30)
        return b"body %d" % self.made


def _stays(seconds: float) -> bool:
    """A client that waits."""
    time.sleep(seconds)
    return False


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def unfair_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, which stands still, and the clock of the thread; set them."""
    clocks = [1000.0, 0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clocks[0])
    monkeypatch.setattr(time, "thread_time", lambda: clocks[1])
    return clocks


def _queue_of(queue: Queue, number: int, maker: Maker, pool: ThreadPoolExecutor) -> list[Future[bytes]]:
    """Clients that wait, the first one for the document to be made."""
    maker.go_on.clear()
    clients = [pool.submit(queue.body, maker.document, False, _stays)]
    assert maker.began.wait(30)
    clients += [pool.submit(queue.body, maker.document, False, _stays) for _ in range(number - 1)]
    _until(lambda: len(queue._waiting) == number)
    return clients


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_clients_at_the_same_time_share_one_document(maker: Maker) -> None:
    with ThreadPoolExecutor(20) as pool:
        clients = _queue_of(Queue(), 20, maker, pool)
        maker.go_on.set()
        assert {client.result(30) for client in clients} == {b"body 1"}
    assert maker.made == 1


def test_a_document_is_fresh_for_a_second(maker: Maker, unfair_clock: list[float]) -> None:
    bodies = []
    for unfair_clock[0] in (1000.0, 1000.9, 1001.1, 1002.0, 1002.2):
        bodies.append(maker.document.body(gzipped=False))
    assert bodies == [b"body 1", b"body 1", b"body 2", b"body 2", b"body 3"]


@pytest.mark.parametrize(("cost", "seconds"), [(0.01, 1), (0.1, 2), (60, 5)])
def test_a_costly_document_stays_fresh_for_longer(
    cost: float, seconds: float, unfair_clock: list[float]
) -> None:
    """But never so long that a scrape every few seconds shows nothing new."""
    made = []

    def make() -> bytes:
        made.append(unfair_clock[0])
        unfair_clock[1] += cost
        return b""

    document = Document("text/plain", make)
    for step in range(100):
        unfair_clock[0] = 1000 + step / 10
        document.body(gzipped=False)
    assert made[1] - made[0] == pytest.approx(seconds, abs=0.11)


def test_a_document_is_compressed_once(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    compressed = []
    compress = gzip.compress

    def counted(body: bytes, level: int) -> bytes:
        compressed.append(body)
        return compress(body, level)

    monkeypatch.setattr(gzip, "compress", counted)
    for _ in range(3):
        assert gzip.decompress(maker.document.body(gzipped=True)) == b"body 1"
        assert maker.document.body(gzipped=False) == b"body 1"
    assert compressed == [b"body 1"]


def test_a_document_that_fails_is_made_again() -> None:
    failures = [ValueError("no")]

    def make() -> bytes:
        if failures:
            raise failures.pop()
        return b"yes"

    document, queue = Document("text/plain", make), Queue()
    with pytest.raises(ValueError, match="no"):
        queue.body(document, False, _stays)
    assert queue.body(document, False, _stays) == b"yes"


def test_only_a_few_wait(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_MAX_WAITING", 3)
    queue = Queue()
    with ThreadPoolExecutor(3) as pool:
        clients = _queue_of(queue, 3, maker, pool)
        with pytest.raises(Busy):
            queue.body(maker.document, False, _stays)
        maker.go_on.set()
        assert {client.result(30) for client in clients} == {b"body 1"}
    assert queue.body(maker.document, False, _stays).startswith(b"body")


def test_nobody_waits_for_ever(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_WAIT_SECONDS", 0.1)
    queue = Queue()
    with ThreadPoolExecutor(1) as pool:
        [first] = _queue_of(queue, 1, maker, pool)
        with pytest.raises(Busy):
            queue.body(maker.document, False, _stays)
        maker.go_on.set()
        assert first.result(30) == b"body 1"


def test_nothing_is_made_for_a_client_that_has_gone(maker: Maker) -> None:
    queue = Queue()
    with pytest.raises(Gone):
        queue.body(maker.document, False, lambda _seconds: True)
    assert maker.made == 0
    assert queue.body(maker.document, False, _stays) == b"body 1"


def test_a_client_that_goes_while_it_waits_lets_others_through(maker: Maker) -> None:
    queue, gone = Queue(), threading.Event()
    other = Maker()
    with ThreadPoolExecutor(3) as pool:
        [first] = _queue_of(queue, 1, maker, pool)
        second = pool.submit(queue.body, other.document, False, gone.wait)
        _until(lambda: len(queue._waiting) == 2)
        third = pool.submit(queue.body, maker.document, False, _stays)
        gone.set()
        with pytest.raises(Gone):
            second.result(30)
        maker.go_on.set()
        assert (first.result(30), third.result(30)) == (b"body 1", b"body 1")
    assert other.made == 0


def test_the_rate_is_bounded(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_BURST", 3)
    monkeypatch.setattr(documents, "_PER_SECOND", 20)
    queue = Queue()
    began = time.monotonic()
    for _ in range(13):
        queue.body(maker.document, False, _stays)
    assert time.monotonic() - began >= 0.4  # 3 at once, and the other 10 in half a second
