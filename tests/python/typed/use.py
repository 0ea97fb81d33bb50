# SPDX-License-Identifier: MIT
"""What users write; `mypy --strict` has nothing to say to it."""
import asyncio
import pathlib

import brim
import brim.snapshot
from brim import Decision, Key, Limiter, Policy, Reason, Verdict


class Gate:
    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def admits(self, key: Key, cost: int = 1) -> bool:
        decision = self.policy.try_acquire(key, cost, brim.Priority.HIGH)
        if decision.verdict == Verdict.UNAVAILABLE or decision.reason == Reason.PAUSED:
            return decision.admitted
        return bool(decision)


class Mine(Limiter):
    pass


def serve(name: str) -> list[float]:
    limiter: Mine = Mine.open(name, policies={'p': '5/d'}, mode=0o640)
    with limiter as same:
        gate = Gate(same.policy('p'))
        gate.admits('a')
        gate.admits(b'a', cost=2)
        batch: list[Decision] = gate.policy.try_acquire_batch(['a', b'b'])
        limiter.try_acquire_all([(gate.policy, 'a'), (gate.policy, 'b', 2)])
        with gate.policy.acquire_lease('a', 2.5) as lease:
            fence: int = lease.fence + lease.expires_ns
        periods: list[int] = [rate.period_ns for rate in gate.policy.rates]
        print(fence, periods)
        return [decision.retry_after for decision in batch]


async def client(policy: Policy) -> Decision:
    first: Decision = await policy.acquire('a', timeout=1)
    await asyncio.gather(policy.acquire('a'), policy.limiter.acquire('p', 'a', 1, None))
    return first


def administer(limiter: Limiter) -> int:
    try:
        limiter.define('q', '5/d')
        limiter.ban('p', '192.0.2.1', brim.NEVER)
    except brim.NotFound as error:
        print(error.name, error.code)
    except (brim.Error, ValueError):
        raise
    rows: list[dict[str, object]] = []
    brim.dump(limiter.name, rows.append)
    with brim.snapshot.Snapshots(limiter.name, pathlib.Path('/tmp/x.db'), interval=1):
        return brim.verify(limiter.name)['errors']
