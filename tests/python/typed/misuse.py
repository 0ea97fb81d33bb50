# SPDX-License-Identifier: MIT
"""What users write by mistake; `mypy --strict` finds each line that says so, and no other."""
import brim
from brim import Decision, Policy

limiter = brim.open('api', policies={'p': 5})  # finds: dict-item
policy = limiter.policy('p')
policy.try_acquire(5)  # finds: arg-type
policy.try_acquire('a', 'b')  # finds: arg-type
policy.try_acquire('a', cost=1.5)  # finds: arg-type
policy.try_acquire('a', price=1)  # finds: call-arg
policy.try_acquire()  # finds: call-arg
policy.acquire_lease('a').fence = 5  # finds: misc
decision = policy.try_acquire('a')
decision.admitted = True  # finds: misc
decision.allowed  # finds: attr-defined
text: str = decision.retry_after  # finds: assignment
brim.open('api', size=5)  # finds: call-arg
brim.dump('api')  # finds: call-arg
limiter.nothing()  # finds: attr-defined


class Mine(Policy):  # finds: misc
    pass


async def forgets_to_await(policy: Policy) -> Decision:
    return policy.acquire('a')  # finds: return-value
