# SPDX-License-Identifier: MIT
"""Rate limits shared by all processes of a machine, without a server.

    limiter = brim.open('api', policies={'per_ip': '100/m burst 20'})
    per_ip = limiter.policy('per_ip')
    if not per_ip.try_acquire(address):
        ...  # 429

Every worker that opens the name decides on the same counts. docs/reference/python.md has it all.
"""
import enum

from brim._brim import (NEVER, NEVER_NS, AlreadyExists, Busy, Damaged, Decision, Error, Full,
                        InvalidArgument, Key, Lease, Limiter, NotFound, PermissionDenied, Policy,
                        Rate, Seconds, Ticket, Unfit, __version__, address_key, dump, info,
                        list_segments, network_contains, parse_policy, resize, verify)

open = Limiter.open


class Verdict(enum.IntEnum):
    """What the limiter found out."""
    DENIED = 0
    ALLOWED = 1
    UNAVAILABLE = 2  # brim could not decide; `admitted` is what the policy says of that


class Reason(enum.IntEnum):
    """Why, where the verdict alone does not say it."""
    NONE = 0
    COST_ABOVE_BURST = 1  # no wait will help
    FULL = 2
    CONTENDED = 3
    READ_ONLY = 4
    NO_POLICY = 5
    BARRED = 6  # the key is banned
    SHADOW = 7  # refused but not enforced: admitted
    EXEMPT = 8  # an override, or `unlimited`
    BLOCKED = 9  # an override, or `deny`
    UNSUPPORTED = 10  # the policy has no such call
    TOO_LATE = 11  # the booking would begin later than allowed
    PAUSED = 12
    MOVED = 13  # the segment was resized and this process can not attach the new table
    TIER_UNAVAILABLE = 14  # scope cluster strict: the store could not be asked


class Priority(enum.IntEnum):
    """A class of requests; it counts where the policy has classes."""
    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3


__all__ = ['NEVER', 'NEVER_NS', 'AlreadyExists', 'Busy', 'Damaged', 'Decision', 'Error', 'Full',
           'InvalidArgument', 'Key', 'Lease', 'Limiter', 'NotFound', 'PermissionDenied', 'Policy',
           'Priority', 'Rate', 'Reason', 'Seconds', 'Ticket', 'Unfit', 'Verdict', '__version__',
           'address_key', 'dump', 'info', 'list_segments', 'network_contains', 'open',
           'parse_policy', 'resize', 'verify']
