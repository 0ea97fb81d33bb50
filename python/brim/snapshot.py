# SPDX-License-Identifier: MIT
"""Snapshots: what a segment's keys owe, kept in a SQLite file, so that limits survive a reboot.

    limiter = brim.snapshot.open_restored('api', '/var/lib/brim/api.db', policies={...})
    ...                                                       # fork the workers
    with brim.snapshot.Snapshots('api', '/var/lib/brim/api.db', interval=10):
        serve()

Any number of workers may have a Snapshots: one of them writes at a time, another when that one
ends. Start it after fork(): a child has no such thread, and can not open the file of its parent.
In the main interpreter only. What is promised is in docs/concepts/snapshots.md.
"""
import atexit
import logging
import os
import weakref
from collections.abc import Callable
from typing import Any

from brim import _brim, _snapshot

_LEVELS = {3: logging.ERROR, 4: logging.WARNING, 6: logging.INFO}
_log = logging.getLogger('brim.snapshot')


def _say(level: int, what: str) -> None:
    _log.log(_LEVELS.get(level, logging.INFO), '%s', what)


class Snapshots:
    """A thread that follows a segment by its name and writes snapshots until stop().

    file: made with mode 0600. interval, busy_timeout, sweep_idle: seconds; sweep_idle > 0 frees the
    slots of keys idle so long. synchronous: what a power cut may lose: "full" nothing, "normal" the
    last ones, "off" the file. keep: copies of earlier segments' files. restore: make the segment
    from the file if there is none. group, owner_uid, mode: see Limiter.open(). say(level, text):
    told what happened, from the thread or in stop(); by default the logger brim.snapshot. It may
    call stop(). Raises Error.
    """

    def __init__(self, name: str, file: str | os.PathLike[str], *, interval: float = 10.0,
                 synchronous: str = 'full', keep: int = 0, busy_timeout: float = 5.0,
                 sweep_idle: float = 0.0, restore: bool = False, group: str | None = None,
                 owner_uid: int | None = None, mode: int | None = None,
                 say: Callable[[int, str], object] = _say) -> None:
        self._thread = _snapshot.start(
            name, os.fspath(file), interval=interval, synchronous=synchronous, keep=keep,
            busy_timeout=busy_timeout, sweep_idle=sweep_idle, restore=restore, group=group,
            owner_uid=owner_uid, mode=mode, say=say)
        _running.add(self)

    def stop(self) -> None:
        """Takes a last snapshot, if this process is the one that writes. May be called again."""
        self._thread.stop()

    def __enter__(self) -> 'Snapshots':
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


_running: weakref.WeakSet[Snapshots] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """The thread may not speak to an interpreter that ends; and what it has is saved."""
    for snapshots in list(_running):
        snapshots.stop()


def once(name: str, file: str | os.PathLike[str], *, synchronous: str = 'full', keep: int = 0,
         busy_timeout: float = 5.0, group: str | None = None, owner_uid: int | None = None,
         mode: int | None = None) -> dict[str, int]:
    """Writes one snapshot; its numbers. Busy if another process writes this file."""
    return _snapshot.once(name, os.fspath(file), synchronous=synchronous, keep=keep,
                          busy_timeout=busy_timeout, group=group, owner_uid=owner_uid,
                          mode=mode)


def restore(name: str, file: str | os.PathLike[str], *, group: str | None = None,
            owner_uid: int | None = None, mode: int | None = None) -> dict[str, int]:
    """Gives the file's states to a live segment; what is stricter wins. How many met which end."""
    return _snapshot.restore(name, os.fspath(file), group=group, owner_uid=owner_uid,
                             mode=mode)


def open_restored(name: str, file: str | os.PathLike[str], **options: Any) -> _brim.Limiter:
    """Limiter.open() that makes the segment from the file if there is none.

    Without a file, or with a damaged one (it is set aside, and the logger told so), the segment
    begins empty. options: those of Limiter.open().
    """
    note = _snapshot.open_restored(os.fspath(file), name, **options)
    if note is not None:
        _log.warning('%s', note)
    return _brim.Limiter.open(name, **options)
