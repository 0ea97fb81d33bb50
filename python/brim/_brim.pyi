# SPDX-License-Identifier: MIT
"""What the extension module holds: brim.h for Python. Import from `brim`."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self, TypeAlias, final

Key: TypeAlias = str | bytes
Seconds: TypeAlias = float | int

NEVER: Final[float]  # math.inf
NEVER_NS: Final[int]
__version__: Final[str]

class Error(Exception):
    """A set-up or administrative call failed. Calls that decide raise it only for wrong arguments.

    `name` is stable ("segment_not_found"); `code` is brim.h's (BRIM_E_...); str() is a sentence.
    """
    name: str
    code: int

class InvalidArgument(Error, ValueError): ...
class NotFound(Error, LookupError): ...
class AlreadyExists(Error): ...
class PermissionDenied(Error, PermissionError): ...
class Unfit(Error): ...
class Busy(Error): ...
class Full(Error): ...
class Damaged(Error): ...

@final
class Decision:
    """The answer to one call; true if the request may pass. Immutable."""
    admitted: Final[bool]
    remaining: Final[int]  # largest cost that would pass right after this call
    retry_after: Final[float]  # seconds; 0.0 if admitted, inf if no wait will help
    reset_after: Final[float]  # seconds until the key is as if never seen
    delay: Final[float]  # seconds to wait before the start, if admitted
    retry_after_ns: Final[int]  # brim.NEVER_NS: no wait will help
    reset_after_ns: Final[int]
    delay_ns: Final[int]
    verdict: Final[int]  # brim.Verdict
    reason: Final[int]  # brim.Reason
    part: Final[int]  # which rate of the policy, or ask of the call, this is about
    granted: Final[int]  # permits taken
    def __bool__(self) -> bool: ...

@final
class Ticket:
    """A booking of Policy.reserve(); true if it was made. Start after decision.delay."""
    decision: Final[Decision]
    cost: Final[int]
    def __bool__(self) -> bool: ...

@final
class Lease:
    """One of at most N leases of a key; true if it was given. A context manager that releases."""
    decision: Final[Decision]
    fence: Final[int]
    expires_ns: Final[int]  # CLOCK_MONOTONIC
    def renew(self, ttl: Seconds | None = None) -> bool: ...
    def release(self) -> bool: ...
    def __bool__(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

@final
class Policy:
    """A policy of one segment. Safe in any thread, and in a child after fork(). Pickles by name."""
    limiter: Final[Limiter]
    name: Final[str]
    text: Final[str]  # as stored now
    rates: Final[tuple[Rate, ...]]  # of that text
    scope: Final[str]  # "node", "cluster" or "strict", as stored now
    def try_acquire(self, key: Key, cost: int = 1, priority: int = 1) -> Decision:
        """Takes `cost` permits for `key`, or none. Never blocks, keeps the GIL, but for policies
        `scope cluster strict`. cost 0 looks."""
    def try_acquire_at(self, now_ns: int, key: Key, cost: int = 1) -> Decision: ...
    def try_acquire_up_to(self, key: Key, least: int, most: int) -> Decision: ...
    def try_acquire_batch(self, keys: Sequence[Key]) -> list[Decision]: ...
    def peek(self, key: Key, cost: int = 0) -> Decision: ...
    def wait(self, key: Key, cost: int = 1, timeout: Seconds | None = None) -> Decision:
        """Blocks until the permits are there, at most `timeout` seconds (None: for ever, 0: one
        attempt). A wait that would be longer is refused at once. Signals interrupt it; it gives up
        the GIL while it sleeps."""
    async def acquire(self, key: Key, cost: int = 1, timeout: Seconds | None = None) -> Decision:
        """wait() for coroutines: sleeps in the event loop. Cancelled, it gives its place back to the
        end of the line: who waits behind it does not come sooner."""
    def reserve(self, key: Key, cost: int = 1, max_delay: Seconds = 60.0) -> Ticket: ...
    def cancel(self, key: Key, ticket: Ticket) -> bool: ...
    def commit(self, key: Key, held: int, actual: int) -> bool: ...
    def refund(self, key: Key, cost: int = 1) -> bool: ...
    def reset(self, key: Key) -> bool: ...
    def acquire_lease(self, key: Key, ttl: Seconds | None = None) -> Lease: ...

@final
class Rate:
    """One rate of a policy, as brim_rate of brim.h. Immutable."""
    algorithm: Final[str]  # "gcra", "token-bucket", ...
    limit: Final[int]
    period_ns: Final[int]  # calendar windows: 0
    burst: Final[int]
    debt: Final[int]
    calendar: Final[str]  # "", "hour", "day", "week", "month", "year"
    utc_offset_s: Final[int]

class Limiter:
    """One attached segment. Opening a name twice in a process shares one mapping. Pickles by name:
    the other process attaches it. Safe in any thread, and in a child after fork()."""
    name: Final[str]
    linked: Final[bool]  # False once the name was removed or taken by another segment
    paused: Final[bool]
    @classmethod
    def open(cls, name: str, *, policies: Mapping[str, str] | None = None, capacity: int = 0,
             name_bytes: int | None = None, max_policies: int = 0, cells_per_key: int = 0,
             overrides: int = 0, probe_limit: int = 0, hash: str = "default",
             on_full: str = "default", clock: str = "auto", accept_stored: bool = False,
             huge_pages: bool = False, mode: int = 0o600, group: str | None = None,
             owner_uid: int | None = None, cluster: bool = False) -> Self: ...
    @classmethod
    def create(cls, name: str, *, policies: Mapping[str, str] | None = None, capacity: int = 0,
               name_bytes: int | None = None, max_policies: int = 0, cells_per_key: int = 0,
               overrides: int = 0, probe_limit: int = 0, hash: str = "default",
               on_full: str = "default", clock: str = "auto", accept_stored: bool = False,
               huge_pages: bool = False, mode: int = 0o600, group: str | None = None,
               owner_uid: int | None = None, cluster: bool = False,
               replace: bool = False) -> Self: ...
    @classmethod
    def attach(cls, name: str, *, policies: Mapping[str, str] | None = None, capacity: int = 0,
               name_bytes: int | None = None, max_policies: int = 0, cells_per_key: int = 0,
               overrides: int = 0, probe_limit: int = 0, hash: str = "default",
               on_full: str = "default", clock: str = "auto", accept_stored: bool = False,
               huge_pages: bool = False, mode: int = 0o600, group: str | None = None,
               owner_uid: int | None = None, cluster: bool = False) -> Self: ...
    @classmethod
    def attach_read_only(
            cls, name: str, *, policies: Mapping[str, str] | None = None, capacity: int = 0,
            name_bytes: int | None = None, max_policies: int = 0, cells_per_key: int = 0,
            overrides: int = 0, probe_limit: int = 0, hash: str = "default",
            on_full: str = "default", clock: str = "auto", accept_stored: bool = False,
            huge_pages: bool = False, mode: int = 0o600, group: str | None = None,
            owner_uid: int | None = None, cluster: bool = False) -> Self: ...
    @classmethod
    def unlink(cls, name: str) -> None: ...
    def policy(self, name: str) -> Policy: ...
    def define(self, name: str, text: str) -> Policy: ...
    def policy_names(self) -> list[str]: ...
    def try_acquire(self, policy: str, key: Key, cost: int = 1) -> Decision: ...
    def wait(self, policy: str, key: Key, cost: int = 1, timeout: Seconds | None = None
             ) -> Decision: ...
    async def acquire(self, policy: str, key: Key, cost: int = 1, timeout: Seconds | None = None
                      ) -> Decision: ...
    def change(self, policy: str, text: str, on_change: str = "keep") -> None: ...
    def set_factor(self, policy: str, factor: float) -> None: ...
    def remove_policy(self, policy: str) -> None: ...
    def reset_policy(self, policy: str) -> None: ...
    def try_acquire_all(self, asks: Iterable[tuple[Policy, Key] | tuple[Policy, Key, int]]
                        ) -> Decision: ...
    def set_override(self, policy: str, key: Key, use: str) -> None: ...
    def set_network_override(self, policy: str, network: str, use: str) -> None: ...
    def clear_override(self, policy: str, key: Key) -> None: ...
    def clear_network_override(self, policy: str, network: str) -> None: ...
    def ban(self, policy: str, key: Key, duration: Seconds) -> None: ...
    def ban_network(self, policy: str, network: str, duration: Seconds) -> None: ...
    def unban(self, policy: str, key: Key) -> None: ...
    def unban_network(self, policy: str, network: str) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def record(self, what: str) -> None: ...
    def sweep(self, idle: Seconds) -> int: ...
    def close(self) -> None:
        """Ends this handle. Its policies raise Error afterwards; other openings go on."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

def parse_policy(text: str) -> tuple[str, tuple[Rate, ...]]:
    """The canonical text and the rates. Raises InvalidArgument."""
def address_key(text: str, v4_prefix: int = 32, v6_prefix: int = 64) -> str | None:
    """The key of a client's address, canonical and cut to the prefix; None if it is none."""
def network_contains(network: str, address: str) -> bool: ...
def list_segments() -> list[dict[str, Any]]:
    """The segments in /dev/shm that this user may read."""
def info(name: str, *, group: str | None = None, owner_uid: int | None = None,
         mode: int | None = None) -> dict[str, Any]:
    """What is known of a segment: sizes, counters, policies. Read-only; gives up the GIL."""
def dump(name: str, visit: Callable[[dict[str, Any]], object], *, group: str | None = None,
         owner_uid: int | None = None, mode: int | None = None) -> None:
    """Calls visit(row) for every used slot until it returns False. Constant memory; read-only."""
def verify(name: str, repair: bool = False,
           visit: Callable[[dict[str, Any]], object] | None = None, *, group: str | None = None,
           owner_uid: int | None = None, mode: int | None = None) -> dict[str, int]: ...
def resize(name: str, *, capacity: int = 0, name_bytes: int = 0, max_policies: int = 0,
           cells_per_key: int = 0, overrides: int = 0, probe_limit: int = 0,
           cluster: bool = False, group: str | None = None, owner_uid: int | None = None,
           mode: int | None = None) -> dict[str, int]: ...
def _started(decision: Decision, /) -> Decision:
    """The same decision once its delay is over."""
def _decide_by(limiter: Limiter, decider: object, /) -> None:
    """For brim.tier."""
def _reattach(*args: Any) -> Limiter:
    """For pickle."""
