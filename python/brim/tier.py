# SPDX-License-Identifier: MIT
"""One limit across machines: policies `scope cluster` count what all nodes admit.

    limiter = brim.open('api', policies={'per_user': '100/m scope cluster'})
    ...                                                       # fork the workers
    with brim.tier.TierThread('api', 'redis://10.0.0.5:6379'):
        serve()

A node is a segment. Any number of its workers may have a TierThread, or `brim agent` does it: one
of them exchanges with the other nodes at a time, another when that one ends. Requests never wait
for it, but those of policies `scope cluster strict`: see answer_strict(). Start it after fork(): a
child has no such thread. In the main interpreter only. docs/concepts/cluster.md has what is
promised.

What all calls take: url: redis://[user:password@]host:port/db, rediss:// for TLS, unix:///path,
redis://s1,s2/0?sentinel_master=NAME, redis://n1,n2,n3 (cluster). password: or "file:PATH", or
"env:NAME". prefix: of all names in the store. secret: 32 hex digits; by default the nodes agree on
one. group, owner_uid, mode: see Limiter.open().
"""
from __future__ import annotations

import atexit
import dataclasses
import logging
import os
import weakref
from collections.abc import Callable
from typing import TypeAlias

from brim import _brim, _tier

Path: TypeAlias = str | os.PathLike[str]

_LEVELS = {3: logging.ERROR, 4: logging.WARNING, 6: logging.INFO}
_log = logging.getLogger('brim.tier')


def _say(level: int, what: str) -> None:
    _log.log(_LEVELS.get(level, logging.INFO), '%s', what)


def _path(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)


class TierThread:
    """A thread that exchanges what a segment's keys use with the other nodes until stop().

    interval: the longest time between two exchanges of a key that matters; timeout: of one
    exchange; hold: while the store is away, the others are taken to go on as they did for so long,
    and then this node takes `share` of each rate (None: one part of as many as there are nodes);
    forget: a node that is not heard of for so long is gone. All in seconds, share from 0 to 1.
    texts: keep the keys' texts in the store beside their hashes, for people; node_name: for
    people. say(level, text): told what happened, from the thread; by default the logger brim.tier.
    Raises Error.
    """

    def __init__(self, name: str, url: str, *, user: str | None = None,
                 password: str | None = None, ca_file: Path | None = None,
                 cert_file: Path | None = None, key_file: Path | None = None,
                 insecure: bool = False, prefix: str = 'brim', secret: str | None = None,
                 texts: bool = False, node_name: str | None = None, interval: float = 0.2,
                 timeout: float = 0.5, hold: float = 10.0, share: float | None = None,
                 forget: float = 30.0, group: str | None = None, owner_uid: int | None = None,
                 mode: int | None = None, say: Callable[[int, str], object] = _say) -> None:
        self._thread = _tier.start(
            name, url, user=user, password=password, ca_file=_path(ca_file),
            cert_file=_path(cert_file), key_file=_path(key_file), insecure=insecure,
            prefix=prefix, secret=secret, texts=texts, node_name=node_name, interval=interval,
            timeout=timeout, hold=hold, share=share, forget=forget, group=group,
            owner_uid=owner_uid, mode=mode, say=say)
        _running.add(self)

    def stop(self) -> None:
        """Tells what is left to tell, and leaves the cluster. May be called again."""
        self._thread.stop()

    def __enter__(self) -> TierThread:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


_running: weakref.WeakSet[TierThread] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """The thread may not speak to an interpreter that ends; and what it has is told."""
    for thread in list(_running):
        thread.stop()


def answer_strict(limiter: _brim.Limiter, url: str, *, user: str | None = None,
                  password: str | None = None, ca_file: Path | None = None,
                  cert_file: Path | None = None, key_file: Path | None = None,
                  insecure: bool = False, prefix: str = 'brim',
                  timeout: float = 0.05, group: str | None = None, owner_uid: int | None = None,
                  mode: int | None = None) -> None:
    """This process decides policies `scope cluster strict` of the segment from now on.

    In all its threads, and in children that it forks: one round trip for each request that this
    node would admit, at most `timeout` seconds; what the node refuses is refused without one.
    Errors and a dead store (which is not asked for a while) are answered by the policy's
    on-unavailable, with Reason.TIER_UNAVAILABLE; so it is until an agent or TierThread of the
    segment has met the others for the first time. Other threads run meanwhile; in an event loop,
    await Policy.acquire().
    Unfit: the segment has no room for it, see Limiter.open(cluster=True).
    """
    _brim._decide_by(limiter, _tier.decider(
        limiter.name, url, user=user, password=password, ca_file=_path(ca_file),
        cert_file=_path(cert_file), key_file=_path(key_file), insecure=insecure, prefix=prefix,
        timeout=timeout, group=group, owner_uid=owner_uid, mode=mode))


@dataclasses.dataclass(frozen=True, slots=True)
class TierStatus:
    """What a node's agent leaves in its segment. Counters only grow; names that end in _ns are ns,
    times of CLOCK_MONOTONIC."""
    kept: bool  # the segment has room for it
    agent_pid: int  # 0: there never was one
    alive_ns: int  # the agent was at work
    up: bool  # the last exchange was answered
    exchanged_ns: int  # the last that was
    down_since_ns: int  # 0: up
    lag_ns: int  # from a use being counted to the answer about it
    round_trip_ns: int
    nodes: int  # that have met
    share_ppm: int  # of the rates, in parts per million, while the store is away
    calls: int  # round trips
    pushes: int  # of keys
    errors: int
    unknown: int  # pushes of which nobody knows whether they were done
    healed: int  # buckets that the store had lost
    overshoot_permits: int  # the most by which any key was found over its burst
    keys_near: int  # keys looked after now
    strict_calls: int
    strict_errors: int
    store: str  # where, without passwords
    error: str  # the last one; empty while up


def status(name: str, *, group: str | None = None, owner_uid: int | None = None,
           mode: int | None = None) -> TierStatus:
    """Reads it from the segment; needs no store. Raises Error."""
    return TierStatus(**_tier.status(name, group=group, owner_uid=owner_uid, mode=mode))


@dataclasses.dataclass(frozen=True, slots=True)
class TierNode:
    """A node as the store knows it."""
    uuid: str
    name: str
    seen_ago: float  # seconds
    self: bool  # it is the segment that was asked for


def nodes(name: str, url: str, *, user: str | None = None, password: str | None = None,
          ca_file: Path | None = None, cert_file: Path | None = None,
          key_file: Path | None = None, insecure: bool = False, prefix: str = 'brim',
          timeout: float = 0.5, group: str | None = None, owner_uid: int | None = None,
          mode: int | None = None) -> list[TierNode]:
    """Asks the store which nodes are there. Raises Error."""
    rows = _tier.nodes(name, url, user=user, password=password, ca_file=_path(ca_file),
                       cert_file=_path(cert_file), key_file=_path(key_file), insecure=insecure,
                       prefix=prefix, timeout=timeout, group=group, owner_uid=owner_uid,
                       mode=mode)
    return [TierNode(row['uuid'], row['name'], row['seen_ago_ns'] / 1e9, bool(row['self']))
            for row in rows]


def remove_node(uuid: str, url: str, *, user: str | None = None, password: str | None = None,
                ca_file: Path | None = None, cert_file: Path | None = None,
                key_file: Path | None = None, insecure: bool = False, prefix: str = 'brim',
                timeout: float = 0.5) -> None:
    """Removes a node that will not come back, at once. Raises Error."""
    _tier.remove_node(uuid, url, user=user, password=password, ca_file=_path(ca_file),
                      cert_file=_path(cert_file), key_file=_path(key_file), insecure=insecure,
                      prefix=prefix, timeout=timeout)
