# SPDX-License-Identifier: MIT
"""The directory of a store, and the gate through which its transactions go one by one."""
from __future__ import annotations

import fcntl
import os
import random
import re
import stat
import time

PATIENCE = 10.0  # seconds at the gate


def directory_of(name: str) -> str:
    """Where the store of the segment `name` is."""
    if os.path.isabs(name) and name.count('/') > 1:
        return name + '.store'
    name = name.removeprefix('/')
    if not re.fullmatch(r'[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}', name):
        raise ValueError(f'not a segment name: {name!r}')
    return f'/dev/shm/{name}.store'


def lock(gate: int) -> bool:
    """False if it is shut."""
    try:
        fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def deadline() -> float:
    return time.monotonic() + PATIENCE


def pause(end: float) -> None:
    """Before one asks again. Raises TimeoutError after the deadline."""
    if time.monotonic() >= end:
        raise TimeoutError(f'another process kept the store shut for {PATIENCE} s')
    time.sleep(random.uniform(0.0001, 0.0005))


def make_gate(directory: str) -> int:
    """Opens the gate, and makes the store's directory if it is not there."""
    while True:
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass
        try:
            return open_gate(directory, os.O_CREAT)
        except FileNotFoundError:
            continue  # removed in between


def open_gate(directory: str, create: int = 0) -> int:
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f'{directory} must be a directory of this user alone (mode 0700)')
    return os.open(os.path.join(directory, 'gate'),
                   os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | create, 0o600)
