# SPDX-License-Identifier: Apache-2.0
"""probes.attachment: what it says when the kernel attaches no program."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from probes import attachment, perfevent


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EINVAL, "Linux 4.14 or RHEL 7.6"),
        (errno.EEXIST, "another tracer has attached its own"),
        (errno.EACCES, "no reason"),
    ],
)
def test_an_old_kernel_attaches_no_program(
    number: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = tmp_path / "events/syscalls/sys_enter_close"
    event.mkdir(parents=True)
    (event / "id").write_text("7\n")

    def refuse(_fd: int, _program: int) -> None:
        raise OSError(number, "no reason")

    opened = os.open(os.devnull, os.O_RDONLY)
    monkeypatch.setattr(perfevent, "open_event", lambda *_: opened)
    monkeypatch.setattr(perfevent, "attach", refuse)
    with pytest.raises(OSError, match=says) as caught:
        attachment.to_tracepoint(3, "syscalls:sys_enter_close", tmp_path)
    assert caught.value.errno == number
    assert "\n" not in str(caught.value)
    with pytest.raises(OSError):
        os.close(opened)  # it is closed
