# SPDX-License-Identifier: MIT
"""What the second extension module holds; use `brim.snapshot`."""
from collections.abc import Callable
from typing import Any, final

@final
class Thread:
    """A thread that writes snapshots."""
    def stop(self) -> None:
        """Takes a last snapshot, if this process is the one that writes."""

def start(name: str, file: str, *, interval: float = ..., synchronous: str = ..., keep: int = ...,
          busy_timeout: float = ..., sweep_idle: float = ..., restore: bool = ...,
          group: str | None = ..., owner_uid: int | None = ..., mode: int | None = ...,
          say: Callable[[int, str], object]) -> Thread: ...
def once(name: str, file: str, *, synchronous: str = ..., keep: int = ...,
         busy_timeout: float = ..., group: str | None = ..., owner_uid: int | None = ...,
         mode: int | None = ...) -> dict[str, int]: ...
def restore(name: str, file: str, *, group: str | None = ..., owner_uid: int | None = ...,
            mode: int | None = ...) -> dict[str, int]: ...
def open_restored(file: str, name: str, **options: Any) -> str | None: ...
