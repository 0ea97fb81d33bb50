#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The store on one server: what exchange() means, and what goes wrong.

Goal: the four rules of src/tier/store.h, exactly, and F51, F52, F56 to F59. Method: random pushes
of three nodes to a real server, beside a model written from the rules, which takes the time of each
push from what the server itself stored (an independent client looks); then a server or a proxy that
misbehaves in one way each.
"""
import contextlib
import fractions
import math
import random
import threading
import time
import unittest

from driver import Driver
from redis_servers import Proxy, Single, wait_until

NODES = [f'{i:x}' * 32 for i in (1, 2, 3)]
MOST = 2 ** 52
MOD = 2 ** 40
RATE = {'units_per_us': 1, 'permit_units': 10 ** 6, 'capacity_units': 5 * 10 ** 6, 'nonce': 9}


class Bucket:
    """Of one rate of one key, by the rules; `told` of (node, nonce)."""

    def __init__(self):
        self.level, self.at, self.permit, self.told = None, None, None, {}

    def charge(self, node, rate, now):
        """Rules 1, 2 and 4; returns whether something was lost."""
        acked = rate['acked_total']
        if self.level is None:
            self.level, self.at = fractions.Fraction(rate['floor_units']), now
            lost = acked != 0
        else:
            if self.permit != rate['permit_units']:
                # What drained of the next unit stays drained.
                whole = math.ceil(self.level)
                self.level += math.ceil(
                    fractions.Fraction(whole * rate['permit_units'], self.permit)) - whole
            self.level -= fractions.Fraction(rate['units_per_us']) * max(0, now - self.at)
            self.level, self.at = max(self.level, 0), now
            lost = False
            if rate['nonce']:
                told = self.told.get((node, rate['nonce']))
                more = (rate['total'] - (acked if told is None else told)) % MOD
                if more >= MOD // 2:
                    more -= MOD
                self.level = min(MOST, max(0, self.level + more * rate['permit_units']))
                if told is None and acked:
                    lost, self.level = True, max(self.level, rate['floor_units'])
        if rate['nonce']:
            self.told[(node, rate['nonce'])] = rate['total']
        self.permit = rate['permit_units']
        return lost


class Model:
    def __init__(self):
        self.buckets = {}

    def push(self, node, push, now):
        rates = push['rates']
        buckets = [self.buckets.setdefault((push['identity'], r['part']), Bucket()) for r in rates]
        lost = any([b.charge(node, r, now) for b, r in zip(buckets, rates)])
        fits = push['cost'] != 0 and all(
            math.ceil(b.level) + (0 if r['by_debt_before'] else push['cost'] * r['permit_units'])
            <= r['capacity_units'] for b, r in zip(buckets, rates))
        if fits:
            for bucket, rate in zip(buckets, rates):
                bucket.level = min(MOST, bucket.level + push['cost'] * rate['permit_units'])
        return fits, lost, [math.ceil(b.level) for b in buckets]


def key_of(push, rate):
    part = f':{rate["part"]}' if rate['part'] else ''
    return f'brim:{push["policy"]}{part}:{{{push["identity"]:016x}}}'


class Exchange(unittest.TestCase):
    """The rules, against the model."""

    def random_push(self, rng, cells, node):
        identity = rng.randrange(4)
        rates = []
        for part, (speed, permit) in enumerate([(1, 10 ** 4), (2 ** -10, 300), (64, 2 ** 18)]):
            if rng.random() < 0.05:
                permit = permit * 3 // 2  # this node has another policy already
            cell = cells.setdefault((node, identity, part), {'nonce': rng.randrange(1, 2 ** 24),
                                                             'total': 0, 'acked_total': 0})
            if rng.random() < 0.03:
                cell.update(nonce=rng.randrange(1, 2 ** 24), total=0, acked_total=0)
            cell['total'] = (cell['total'] + rng.choice([0, 1, 5, 40])) % MOD
            rates.append({'part': part, 'units_per_us': speed, 'permit_units': permit,
                          'capacity_units': permit * rng.choice([60, 2000]),
                          'by_debt_before': rng.random() < 0.2,
                          'floor_units': rng.randrange(permit * 50), **cell})
            if rng.random() < 0.1:
                rates[-1]['nonce'] = 0
        rates = rates[:rng.randrange(1, 4)]
        return {'policy': 'api', 'identity': identity, 'rates': rates, 'keep_ms': 30000,
                'cost': rng.choice([0, 0, 1, 1, 7])}, cells

    def test_random(self):
        rng = random.Random(8)
        model, cells = Model(), {}
        admitted = lost = 0
        with Single() as server, contextlib.ExitStack() as stack:
            oracle = stack.enter_context(contextlib.closing(server.client()))
            drivers = {n: stack.enter_context(Driver(server.url(), node=n)) for n in NODES}
            for step in range(3000):
                if rng.random() < 0.01:  # the store loses some of it
                    identity = rng.randrange(4)
                    for part in range(3):
                        key = key_of({'policy': 'api', 'identity': identity}, {'part': part})
                        bucket = model.buckets.get((identity, part))
                        if bucket is not None and rng.random() < 0.5:
                            oracle.delete(key)
                            del model.buckets[(identity, part)]
                        elif bucket is not None and bucket.told:
                            node, nonce = rng.choice(sorted(bucket.told))
                            oracle.hdel(key, f'{node}.{nonce:x}')
                            del bucket.told[(node, nonce)]
                node = rng.choice(NODES)
                push, _ = self.random_push(rng, cells, node)
                answer = drivers[node].exchange([push])[0]
                self.assertEqual(answer['code'], 'OK', answer)
                # The moment that the script saw: rates of whole units store it itself, and if the
                # first rate is one of these; part 0 always is.
                now = int(oracle.hget(key_of(push, push['rates'][0]), 'at'))
                expected = model.push(node, push, now)
                self.assertEqual((answer['admitted'], answer['lost'], answer['levels']), expected,
                                 (step, push))
                admitted, lost = admitted + expected[0], lost + expected[1]
                for rate in push['rates']:
                    key = key_of(push, rate)
                    stored = oracle.hgetall(key)
                    bucket = model.buckets[(push['identity'], rate['part'])]
                    self.assertEqual(int(stored[b'l']), math.ceil(bucket.level))
                    told = {k.decode(): int(v) for k, v in stored.items() if b'.' in k}
                    self.assertEqual(told, {f'{n}.{c:x}': t for (n, c), t in bucket.told.items()})
                    lives_ms = oracle.pttl(key)
                    level_ms = (math.ceil(bucket.level) / fractions.Fraction(rate['units_per_us'])
                                / 1000)
                    self.assertGreater(lives_ms, level_ms + 30000 - 5000)
                    self.assertLessEqual(lives_ms, level_ms + 30001)
                if rng.random() < 0.7:
                    for rate in push['rates']:
                        cell = cells[(node, push['identity'], rate['part'])]
                        if rate['nonce'] == cell['nonce']:
                            cell['acked_total'] = cell['total']
        self.assertGreater(admitted, 100)
        self.assertGreater(lost, 10)

    def test_told_twice_is_told_once(self):
        with Single() as server, Driver(server.url(), node=NODES[0]) as driver:
            rate = {**RATE, 'units_per_us': 2 ** -20, 'capacity_units': MOST, 'total': 5}
            first = driver.push({**rate, 'total': 0})
            levels = [driver.push(rate)['levels'][0] for _ in range(3)]
            self.assertEqual(first['levels'], [0])
            self.assertEqual(levels, [5 * 10 ** 6] * 3)
            # The total wraps.
            driver.push({**rate, 'total': MOD - 1}, identity=2)
            wrapped = driver.push({**rate, 'total': 1}, identity=2)
            self.assertEqual(wrapped['levels'], [2 * 10 ** 6])

    def test_changes_are_numbered(self):
        """Whoever finds the number that he left knows that nobody told anything meanwhile."""
        with Single() as server, Driver(server.url(), node=NODES[0]) as one, \
                Driver(server.url(), node=NODES[1]) as two:
            def told(driver, total):
                return driver.push({**RATE, 'total': total})['changes']
            before, after = told(one, 1)
            self.assertNotEqual(before, after)
            self.assertEqual(told(one, 2)[0], after)
            after = told(one, 3)[1]
            self.assertEqual(told(one, 3), [after, after])  # nothing new
            self.assertEqual(told(two, 0), [after, after])  # nor from another
            left = told(two, 5)[1]
            self.assertNotEqual(left, after)
            self.assertNotEqual(told(one, 4)[0], after)
            server.client().flushall()
            self.assertNotEqual(told(one, 4)[0], told(two, 5)[0])

    def test_extremes(self):
        """No number is beyond what a double holds exactly, whatever is told."""
        with Single() as server, Driver(server.url(), node=NODES[0]) as driver:
            client = server.client()
            for permit in (1, 2 ** 51 + 1, MOST):
                for speed in (2 ** -40, 1, 2 ** 40):
                    driver.push({**RATE, 'permit_units': permit, 'units_per_us': speed})
                    answer = driver.push({**RATE, 'permit_units': permit, 'units_per_us': speed,
                                          'total': 2 ** 39 - 1, 'capacity_units': MOST}, cost=3)
                    self.assertEqual(answer['code'], 'OK', answer)
                    self.assertLessEqual(answer['levels'][0], MOST)
                    for key in client.keys():
                        self.assertGreater(client.pttl(key), 0)
                        self.assertRegex(client.hget(key, 'l'), b'^[0-9]+$')
                    client.flushall()

    def test_another_policy(self):
        """Beyond exact products the level is rounded up, by a little only."""
        rng = random.Random(9)
        with Single() as server, Driver(server.url(), node=NODES[0]) as driver:
            for i in range(200):
                level, before, after = (rng.randrange(1, 2 ** 50), rng.randrange(1, 2 ** 40),
                                        rng.randrange(1, 2 ** 40))
                still = {**RATE, 'units_per_us': 2 ** -40}
                driver.push({**still, 'permit_units': before, 'floor_units': level}, identity=i)
                got = driver.push({**still, 'permit_units': after}, identity=i)['levels'][0]
                exact = min(fractions.Fraction(level * after, before), MOST)
                self.assertGreaterEqual(got, exact)
                self.assertLessEqual(
                    got, min(MOST, exact * (1 + fractions.Fraction(1, 2 ** 50)) + 1))

    def test_a_clock_that_steps_back(self):
        """F59: only the server's clock counts, and a master whose clock is behind drains nothing
        for a second; then the bucket drains again, however far the clock went back."""
        with Single() as server, Driver(server.url(), node=NODES[0]) as driver:
            client = server.client()
            driver.push({**RATE, 'floor_units': 4 * 10 ** 6})
            key = client.keys()[0]
            for step_us in (10 ** 6 // 2, 600 * 10 ** 6):
                ahead = int(client.hget(key, 'at')) + step_us
                client.hset(key, mapping={'at': ahead, 'l': 3 * 10 ** 6})
                began = time.monotonic()
                level = driver.push(RATE)['levels'][0]
                # The whole of it, unless this took longer than the clock went back.
                self.assertGreaterEqual(level, 3 * 10 ** 6 - (time.monotonic() - began) * 10 ** 6)
                self.assertLessEqual(int(client.hget(key, 'at')), ahead)
                wait_until(lambda: driver.push(RATE)['levels'][0] < 2 * 10 ** 6, 'it drains again')

    def test_each_rate_has_a_bucket_of_its_own(self):
        """No policy's name makes the second rate of another."""
        with Single() as server, Driver(server.url(), node=NODES[0]) as driver:
            slow = {**RATE, 'units_per_us': 2 ** -50}
            for part, end in ((0, '.1'), (0, '-1'), (0, '_1'), (1, '')):
                driver.push({**slow, 'part': part, 'total': 3}, policy='p' + end)
            self.assertEqual(len(server.client().keys()), 4)

    def test_text_and_purge(self):
        with Single() as server, Driver(server.url(), node=NODES[0]) as driver:
            client = server.client()
            driver.push({**RATE, 'total': 3}, text='user é\n"')
            key = client.keys()[0]
            self.assertEqual(client.hget(key, 'k').decode(), 'user é\n"')
            client.hset(key, mapping={f'{i:032x}.1': 7 for i in range(1100)})
            answer = driver.push({**RATE, 'nonce': 10, 'total': 1})
            self.assertEqual(answer['code'], 'OK')
            told = [name for name in client.hkeys(key) if b'.' in name]
            self.assertEqual(told, [f'{NODES[0]}.a'.encode()])
            self.assertTrue(client.hget(key, 'k'))
            healed = driver.push({**RATE, 'total': 3, 'acked_total': 3, 'floor_units': 9 * 10 ** 6})
            self.assertTrue(healed['lost'])
            self.assertEqual(healed['levels'], [9 * 10 ** 6])

    def test_meeting(self):
        with Single() as server, Driver(server.url()) as driver:
            names = {NODES[0]: 'one\x00\x1b', NODES[1]: 'x' * 400, NODES[2]: ''}
            for uuid, name in names.items():
                met = driver.meet(uuid, name, secret0=2 ** 64 - 1, secret1=int(uuid[0]))
            self.assertEqual(met['secret'], [2 ** 64 - 1, 1])
            self.assertEqual({n['uuid']: n['name'] for n in met['nodes']},
                             {u: n[:255] for u, n in names.items()})
            client = server.client()
            client.hset('brim:{nodes}', mapping={'not a uuid': '1 x', 'f' * 32: 'garbage'})
            self.assertEqual(len(driver.meet(NODES[0])['nodes']), 3)
            self.assertEqual(driver.say(forget=NODES[1])['code'], 'OK')
            left = driver.meet(NODES[2], leave=True)
            self.assertEqual([n['uuid'] for n in left['nodes']], [NODES[0]])
            time.sleep(0.05)
            late = driver.meet(NODES[2], forget_ns=10 ** 7)
            self.assertEqual([n['uuid'] for n in late['nodes']], [NODES[2]])
            client.set('brim:{secret}', 'damaged')
            self.assertEqual(driver.meet(NODES[0], secret0=5, secret1=6)['secret'], [5, 6])


class Faults(unittest.TestCase):
    def test_f51_script_flush(self):
        """One EVAL for all pushes, no error, nothing counted twice."""
        with Single() as server, Driver(server.url(), node=NODES[0]) as driver:
            slow = {**RATE, 'units_per_us': 2 ** -20, 'capacity_units': MOST}
            driver.exchange([{'rates': [slow], 'identity': i} for i in range(50)])
            for round_ in range(1, 6):
                server.client().script_flush()
                evals = int(server.client().info('commandstats')['cmdstat_eval']['calls'])
                answers = driver.exchange([{'rates': [{**slow, 'total': round_}], 'identity': i,
                                            'cost': 1} for i in range(50)])
                self.assertEqual({a['code'] for a in answers}, {'OK'})
                self.assertEqual({a['levels'][0] for a in answers}, {2 * round_ * 10 ** 6})
                after = int(server.client().info('commandstats')['cmdstat_eval']['calls'])
                self.assertEqual(after - evals, 1)
            self.assertEqual(driver.counts()['reloads'], 6)

    def test_f52_a_lost_reply(self):
        """Executed, and the answer lost: Unknown, and never sent again."""
        for mode in 'drop_replies', 'cut_replies':
            with self.subTest(mode), Single() as server, Proxy(server.address) as proxy, \
                    Driver(proxy.url(), node=NODES[0]) as driver:
                slow = {**RATE, 'units_per_us': 2 ** -20, 'capacity_units': MOST}
                driver.push(slow, cost=1)
                proxy.mode = mode
                answers = driver.exchange([{'rates': [slow], 'identity': 1, 'cost': 1}] * 3,
                                          timeout_ms=700)
                self.assertEqual({a['code'] for a in answers}, {'UNKNOWN'}, answers)
                self.assertRegex(answers[0]['message'], '^tier_unknown: tier_(timeout|connect): ')
                proxy.mode = 'pass'
                last = driver.push(slow)
                self.assertEqual(last['levels'], [4 * 10 ** 6])  # once each
                counts = driver.counts()
                self.assertEqual((counts['unknown'], counts['errors']), (3, 3))

    def test_surely_not_done(self):
        """Never sent: Unavailable, with the reason, at once."""
        with Single() as server, Proxy(server.address) as proxy, \
                Driver(proxy.url(), node=NODES[0]) as driver:
            driver.push(RATE)
            proxy.refuse()
            answer = driver.push(RATE)
            self.assertEqual(answer['code'], 'UNAVAILABLE')
            self.assertRegex(answer['message'], r'^tier_connect: 127.0.0.1:\d+: Connection refused')
            proxy.accept()
            self.assertEqual(driver.push(RATE)['code'], 'OK')
            proxy.mode = 'blackhole'
            proxy.cut()
            answer = driver.push(RATE, more={'timeout_ms': 200})
            self.assertEqual(answer['code'], 'UNAVAILABLE')
            self.assertRegex(answer['message'], '^tier_timeout: ')
            proxy.mode = 'pass'
            proxy.cut()  # idle: noticed before anything is sent
            self.assertEqual(driver.push(RATE)['code'], 'OK')
            self.assertEqual(driver.counts()['unknown'], 0)

    def test_the_deadline(self):
        """A server that is stopped: the call ends by its deadline, as Unknown."""
        with Single() as server, Driver(server.url(), node=NODES[0]) as driver:
            driver.push(RATE)
            server.pause()
            try:
                said = driver.say(exchange=[{'rates': [RATE]}], timeout_ms=150)
            finally:
                server.resume()
            self.assertEqual(said['answers'][0]['code'], 'UNKNOWN')
            self.assertGreaterEqual(said['took_ms'], 150)
            self.assertEqual(driver.push(RATE)['code'], 'OK')

    def test_f56_memory(self):
        with Single('maxmemory 3mb', 'maxmemory-policy noeviction') as server, \
                Driver(server.url(), node=NODES[0]) as driver:
            client = server.client()
            self.assertEqual(driver.say(warning=1)['warning'], '')
            for policy in 'allkeys-lru', 'volatile-ttl':
                client.config_set('maxmemory-policy', policy)
                self.assertIn(policy, driver.say(warning=1)['warning'])
            client.config_set('maxmemory-policy', 'noeviction')
            driver.push(RATE)
            client.config_set('maxmemory', '1mb')
            answer = driver.push(RATE, cost=1)
            self.assertEqual(answer['code'], 'RESOURCE_EXHAUSTED', answer)
            self.assertRegex(answer['message'], '^tier_oom: ')
            self.assertEqual(driver.counts()['refusals'][4], 1)
            client.config_set('maxmemory', 0)
            self.assertEqual(driver.push(RATE)['code'], 'OK')
            client.config_set('maxmemory-policy', 'allkeys-lru')
            self.assertEqual(driver.say(warning=1)['warning'], '')

    def test_busy_and_wrong_type(self):
        with Single('busy-reply-threshold 50') as server, \
                Driver(server.url(), node=NODES[0]) as driver:
            driver.push(RATE)
            holder = server.client()
            holder.connection_pool.connection_kwargs['socket_timeout'] = 60
            thread = threading.Thread(target=lambda: self.assertRaises(
                Exception, holder.eval, 'while true do end', 0))
            thread.start()
            answer = wait_until(lambda: (lambda a: a if 'BUSY' in a['message'] else None)(
                driver.push(RATE, more={'timeout_ms': 300})), 'BUSY')
            server.client().script_kill()
            thread.join()
            self.assertRegex(answer['message'], '^tier_busy: ')
            self.assertEqual(answer['code'], 'UNAVAILABLE')
            server.client().flushall()
            server.client().set('brim:api:{0000000000000001}', 'x')
            answer = driver.push(RATE)
            self.assertRegex(answer['message'], '^tier_refused: .*WRONGTYPE')


if __name__ == '__main__':
    unittest.main()
