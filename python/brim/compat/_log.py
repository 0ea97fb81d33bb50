# SPDX-License-Identifier: MIT
"""An exact log of any limit. A segment keeps at most 256 permits in one log, so a larger limit is
kept in several, each under a key of its own: what passes in any period is at most the sum of their
limits, which is the limit, and a permit is refused only if every one of them is full."""
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import brim

CELLS = 64  # of a slot in a segment that is made here; 8 bytes each
MOST_PARTS = 64

_ASKS = 8  # that one call decides
_ROUNDS = 64  # lost races in a row

Ask = tuple[brim.Policy, bytes, int]


def open_segment(name: str, options: Mapping[str, Any]) -> brim.Limiter:
    """Opens a segment as it is stored, or creates one with these options and room for logs."""
    made: dict[str, Any] = {"cells_per_key": CELLS, "accept_stored": True, **options}
    return brim.Limiter.open(name, **made)


def encode(key: str) -> bytes:
    """The key as it is stored; any text has one."""
    return key.encode("utf-8", "surrogatepass")


def define(limiter: brim.Limiter, name: str, text: str) -> brim.Policy:
    """The policy of that name: with this text if it is new, else as an operator changed it."""
    try:
        return limiter.define(name, text)
    except brim.AlreadyExists:
        return limiter.policy(name)


def _splits(name: str, limit: int) -> Iterator[tuple[list[str], list[int]]]:
    """Ways to keep `limit` permits, few parts first: the parts' policies, and the limit of each.
    A name says how many parts there are, so whoever finds it stored knows the others."""
    count = -(-limit // 256)
    while 0 < count <= MOST_PARTS:
        size = -(-limit // count)
        full, rest = divmod(limit, size)
        main = name if count == 1 else f"{name}.{count}"
        yield [main] * full + [main + ".r"] * (rest != 0), [size] * full + [rest] * (rest != 0)
        count *= 2


class Log:
    """At most `limit` permits a key in any `span` ("60s"), or what an operator made of that. Parts
    that are stored are taken as they are. Safe in any thread, process and after fork()."""

    def __init__(self, limiter: brim.Limiter, limit: int, parts: list[brim.Policy]) -> None:
        self.limiter, self.limit, self.parts = limiter, limit, parts
        self._turn = 0

    def _places(self, key: bytes) -> list[tuple[brim.Policy, bytes]]:
        return [(policy, key + b"\0%d" % i if i else key) for i, policy in enumerate(self.parts)]

    def _in_turn(self, key: bytes) -> list[tuple[brim.Policy, bytes]]:
        places = self._places(key)
        self._turn = turn = (self._turn + 1) % max(len(places), 1)
        return places[turn:] + places[:turn]

    def room(self, key: bytes) -> int:
        """Permits that are free now; all of them where nothing is counted (paused, exempt)."""
        return min(self.limit, sum(policy.peek(name).remaining
                                   for policy, name in self._places(key)))

    def take(self, key: bytes, cost: int) -> bool:
        """Takes `cost` permits, or none."""
        if len(self.parts) == 1:
            return bool(self.parts[0].try_acquire(key, cost))
        if cost == 1:
            return any(policy.try_acquire(name) for policy, name in self._in_turn(key))
        return take_all([self], key, cost) is None

    def free(self, key: bytes, cost: int) -> list[Ask] | None:
        """Where `cost` permits are free, in as few parts as can be; None: they are not."""
        if cost > self.limit:
            return None
        found: list[Ask] = []
        for policy, name in self._in_turn(key) if cost > 0 else []:
            look = policy.peek(name, cost)
            if look:
                return [(policy, name, cost)]
            found.append((policy, name, look.remaining))
        asks: list[Ask] = []
        for policy, name, room in sorted(found, key=lambda one: -one[2]):
            if room > 0 and cost > 0:
                asks.append((policy, name, min(room, cost)))
                cost -= room
        return asks if cost <= 0 else None

    def leaves_ns(self, key: bytes, most: int) -> list[int]:
        """When the oldest `most` permits of the key leave, in ns from now, soonest first."""
        found = []
        for policy, name in self._places(key):
            look = policy.peek(name)
            if look and look.reason:
                continue  # nothing is counted
            for cost in range(look.remaining + 1, look.remaining + most + 1):
                look = policy.peek(name, cost)
                if look or look.retry_after_ns == brim.NEVER_NS:
                    break
                found.append(look.retry_after_ns)
        return sorted(found)[:most]

    def wait_ns(self, key: bytes, cost: int) -> int | None:
        """ns until `cost` permits are free if nobody else takes any; None: never."""
        if cost > self.limit:
            return None
        missing = cost - self.room(key)
        if missing <= 0:
            return 0
        leaves = self.leaves_ns(key, missing)
        if len(leaves) == missing:
            return leaves[-1]
        return 0 if self.room(key) >= cost else None

    def clear(self, key: bytes) -> None:
        """Forgets the key."""
        for policy, name in self._places(key):
            policy.reset(name)


def stored_log(limiter: brim.Limiter, name: str, limit: int) -> Log | None:
    """The log if its policies are there; defines none."""
    known = set(limiter.policy_names())
    for names, _ in _splits(name, limit):
        if known.issuperset(names):
            policies = {one: limiter.policy(one) for one in set(names)}
            return Log(limiter, limit, [policies[one] for one in names])
    return None


def open_log(limiter: brim.Limiter, name: str, limit: int, span: str) -> Log:
    """The log as it is stored, or a new one."""
    if limit <= 0:
        return Log(limiter, 0, [])
    if found := stored_log(limiter, name, limit):
        return found
    for names, sizes in _splits(name, limit):
        try:
            policies = {one: define(limiter, one, f"sliding-log {size}/{span} inclusive")
                        for one, size in zip(names, sizes)}
            return Log(limiter, limit, [policies[one] for one in names])
        except brim.Unfit as error:
            if error.name != "too_few_cells":
                raise
    raise ValueError(
        f"a log of {limit} permits does not fit segment {limiter.name}: it may have {MOST_PARTS} "
        f"times the segment's cells_per_key, which is 0 if nobody asked for any; create that with "
        f"more, at most 256 (brim resize {limiter.name} --cells-per-key 256), or take a segment "
        f"of its own")


def take_all(logs: Sequence[Log], key: bytes, cost: int) -> int | None:
    """Takes `cost` permits of each log, or none; which log refuses, or None. What one call of brim
    decides (8 parts, one instant) is taken or not. If it needs more calls, and others overtake it
    between them, what it has taken stays taken: an event is of nobody, and to give one back might
    be to drop a newer one of somebody else, which would admit too many."""
    left = [cost] * len(logs)
    refuses = 0
    for _ in range(_ROUNDS):
        asks: list[tuple[int, Ask]] = []
        for i, log in enumerate(logs):
            free = log.free(key, left[i])
            if free is None:
                return i
            asks += ((i, ask) for ask in free)
        for start in range(0, len(asks), _ASKS):
            some = asks[start:start + _ASKS]
            decision = logs[0].limiter.try_acquire_all([ask for _, ask in some])
            if not decision:
                refuses = some[min(decision.part, len(some) - 1)][0]
                break
            for i, ask in some:
                left[i] -= ask[2]
        else:
            return None
        if decision.verdict != brim.Verdict.DENIED or decision.reason != brim.Reason.NONE:
            break
    return refuses
