#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The store in a cluster.

Goal: F60: slots that move under traffic (MOVED, ASK), a killed master; every redirect is followed a
bounded number of times and counted, no call fails while slots move, and nothing counts twice.
Method: three masters with replicas; `redis-cli --cluster reshard`, a slot held half-way, kill -9;
every bucket's level against what was told.
"""
import threading
import time
import unittest

from driver import Driver
from redis_servers import GENEROUS_S, Cluster, wait_until

NODE = '1' * 32
RATE = {'units_per_us': 2 ** -50, 'permit_units': 1, 'capacity_units': 2 ** 52, 'nonce': 9}
KEYS = 200


def pushes(total):
    return [{'rates': [{**RATE, 'total': total}], 'identity': i} for i in range(KEYS)]


class InACluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.cluster.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()

    def setUp(self):
        for server in self.cluster.servers[:3]:
            if server.child.poll() is None:
                server.client().flushall()

    def test_slots(self):
        """Ours of a key is the cluster's, and one seed suffices."""
        with Driver(self.cluster.url(self.cluster.servers[5:6], query='?cluster=1'),
                    node=NODE) as driver:
            answers = driver.exchange(pushes(3))
            self.assertEqual({(a['code'], tuple(a['levels'])) for a in answers}, {('OK', (0,))})
            counts = driver.counts()
            self.assertEqual((counts['redirects'], counts['errors']), (0, 0))
            self.assertLessEqual(counts['connects'], 4)
            self.assertEqual(driver.meet(NODE)['code'], 'OK')
            self.assertEqual(driver.say(warning=1)['warning'], '')
        stored = sum(server.client().dbsize() for server in self.cluster.servers[:3])
        self.assertEqual(stored, KEYS + 2)
        # Without ?cluster=1 it is one server, which says where the key is.
        other = next(s for s in self.cluster.servers[:3]
                     if s is not self.cluster.owner(self.cluster.slot_of('{0000000000000001}')))
        with Driver(other.url(), node=NODE) as driver:
            self.assertRegex(driver.push(RATE)['message'], '^tier_redirects: .*cluster=1')

    def test_f60_reshard_under_traffic(self):
        with Driver(self.cluster.url(), node=NODE) as driver:
            driver.exchange(pushes(0))
            done, failed = threading.Event(), []

            def move():
                try:
                    for source, target in ((0, 1), (1, 2), (2, 0)):
                        self.cluster.reshard(400, source, target)
                except BaseException as error:  # told by the main thread
                    failed.append(error)
                done.set()

            thread = threading.Thread(target=move)
            thread.start()
            total, refused = 0, []
            while not done.is_set() or total < 5:
                total += 1
                answers = driver.exchange(pushes(total))
                refused += [a for a in answers if a['code'] != 'OK']
                for answer in answers:
                    if answer['code'] == 'OK':
                        self.assertEqual(answer['levels'], [total])
            thread.join()
            self.assertEqual(failed, [])
            self.assertEqual(refused, [])
            counts = driver.counts()
            self.assertGreater(counts['redirects'], 0)
            self.assertEqual(counts['unknown'], 0)

    def test_f60_a_slot_on_its_way(self):
        with Driver(self.cluster.url(), node=NODE) as driver:
            driver.exchange(pushes(0))
            slot = self.cluster.slot_of('{0000000000000007}')
            source = self.cluster.owner(slot)
            target = next(s for s in self.cluster.servers[:3] if s is not source)
            before = driver.counts()
            with self.cluster.migrating(slot, target):
                answers = driver.exchange(pushes(1))
                self.assertEqual({(a['code'], tuple(a['levels'])) for a in answers}, {('OK', (1,))})
                self.assertEqual(driver.counts()['redirects'] - before['redirects'], 1)
                again = driver.push({**RATE, 'total': 2}, identity=7)
                self.assertEqual(again['levels'], [2])
                self.assertEqual(driver.counts()['redirects'] - before['redirects'], 2)
            after = driver.exchange(pushes(3))
            self.assertEqual({(a['code'], tuple(a['levels'])) for a in after}, {('OK', (3,))})
            self.assertEqual(driver.counts()['redirects'] - before['redirects'], 3)  # one MOVED

    def test_zz_a_killed_master(self):
        """Last: it leaves the cluster with a dead server."""
        with Driver(self.cluster.url(), node=NODE, connect_timeout_ms=300) as driver:
            driver.exchange(pushes(0))
            slot = self.cluster.slot_of('{0000000000000007}')
            victim = wait_until(lambda: self.cluster.owner(slot), 'an owner')
            victim.client().execute_command('WAIT', 1, 5000)
            victim.kill()
            total, end, errors, others_ok = 1, time.monotonic() + GENEROUS_S, [], False
            while time.monotonic() < end:
                total += 1
                answers = driver.exchange(pushes(total), timeout_ms=400)
                bad = [a for a in answers if a['code'] != 'OK']
                others_ok = others_ok or 0 < len(bad) < KEYS
                if not bad:
                    break
                errors += bad
            else:
                self.fail(f'no end of errors: {errors[-1]}')
            self.assertTrue(others_ok, 'the other masters\' keys were answered meanwhile')
            for answer in errors:
                self.assertRegex(answer['message'],
                                 '^tier_(connect|cluster_down|unknown|timeout|loading|readonly)')
            # What was told and lost with the master is healed by the next total.
            self.assertEqual({tuple(a['levels']) for a in driver.exchange(pushes(total))},
                             {(total,)})
            self.assertLessEqual(driver.counts()['unknown'], KEYS)


if __name__ == '__main__':
    unittest.main()
