#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The store behind Sentinel.

Goal: F53: the master is killed under calls; each call ends by its deadline with an answer or a
named error, calls are answered again once there is a new master, what surely was not done is not
called Unknown, and nothing counts twice. Method: a master, a replica, three sentinels; kill -9; the
new master's bucket against what was told.
"""
import time
import unittest

from driver import Driver
from redis_servers import GENEROUS_S, Sentinel, wait_until

NODE = '1' * 32
RATE = {'units_per_us': 2 ** -50, 'permit_units': 1, 'capacity_units': 2 ** 52, 'nonce': 9}


class Failover(unittest.TestCase):
    def pushes_until_ok(self, driver, total, timeout_ms=400):
        """Tells totals that grow, as an agent does; returns the answers until the first success."""
        if total == 0:
            driver.push(RATE, identity=0)  # what comes later is added to it
        answers, end = [], time.monotonic() + GENEROUS_S
        while time.monotonic() < end:
            total += 1
            said = driver.say(exchange=[{'rates': [{**RATE, 'total': total}]}],
                              timeout_ms=timeout_ms)
            answers += said['answers']
            if answers[-1]['code'] == 'OK':
                return total, answers
            self.assertLess(said['took_ms'], 30000)
        self.fail(f'no answer again: {answers[-1]}')

    def test_f53_the_master_is_killed(self):
        with Sentinel(password='secret-word') as group, \
                Driver(group.url(), node=NODE, connect_timeout_ms=300) as driver:
            total, answers = self.pushes_until_ok(driver, 0)
            self.assertEqual([a['code'] for a in answers], ['OK'])
            for _ in range(20):
                total, _ = self.pushes_until_ok(driver, total)
            group.data[0].client().execute_command('WAIT', 1, 5000)
            old = group.kill_master()
            total, answers = self.pushes_until_ok(driver, total)
            for answer in answers[:-1]:
                self.assertRegex(answer['message'],
                                 '^tier_(connect|readonly|unknown|loading|timeout)')
                self.assertEqual(answer['code'] == 'UNKNOWN',
                                 answer['message'].startswith('tier_unknown'))
            # At most the call that was under way at the kill may have been done.
            self.assertLessEqual(driver.counts()['unknown'], 1)
            self.assertEqual(answers[-1]['levels'], [total])
            self.assertFalse(answers[-1]['lost'])
            new = wait_until(group.current_master, 'a new master')
            self.assertIsNot(new, old)
            self.assertEqual(int(new.client().hgetall('brim:api:{0000000000000000}')[b'l']), total)

            # The old one comes back, and calls itself a master for a while: nobody is sent there.
            old.start()
            total, answers = self.pushes_until_ok(driver, total)
            self.assertEqual(answers[-1]['levels'], [total])

    def test_a_replaced_master(self):
        """It works on, and calls itself a master for seconds: a meeting finds the new one."""
        with Sentinel() as group, Driver(group.url(), node=NODE) as driver:
            total, _ = self.pushes_until_ok(driver, 0)
            old = wait_until(group.current_master, 'a master')
            old.client().execute_command('WAIT', 1, 5000)
            group.sentinels[0].client().execute_command('SENTINEL FAILOVER', group.name)
            new = group.wait_failover(old)
            self.assertEqual(driver.meet(NODE)['code'], 'OK')
            total, answers = self.pushes_until_ok(driver, total, timeout_ms=5000)
            self.assertEqual(answers[-1]['levels'], [total])
            stored = new.client().hget('brim:api:{0000000000000000}', f'{NODE}.9')
            self.assertEqual(int(stored), total)
            self.assertEqual(driver.counts()['unknown'], 0)

    def test_a_demoted_master(self):
        """READONLY on an open connection: the master is looked for within the call."""
        with Sentinel() as group, Driver(group.url(), node=NODE) as driver:
            total, _ = self.pushes_until_ok(driver, 0)
            master = wait_until(group.current_master, 'a master')
            master.client().execute_command('REPLICAOF', '127.0.0.1', group.replica.port)
            answer = driver.push(RATE, more={'timeout_ms': 400})
            self.assertEqual(answer['code'], 'UNAVAILABLE')
            self.assertRegex(answer['message'], '^tier_readonly: ')
            self.assertGreater(driver.counts()['refusals'][0], 0)
            master.client().execute_command('REPLICAOF', 'NO', 'ONE')
            self.pushes_until_ok(driver, total)
            self.assertEqual(driver.counts()['unknown'], 0)

    def test_readonly_of_a_single_server(self):
        with Sentinel() as group, Driver(group.replica.url(), node=NODE) as driver:
            answer = driver.push(RATE)
            self.assertEqual(answer['code'], 'UNAVAILABLE')
            self.assertRegex(answer['message'], '^tier_readonly: ')
            self.assertEqual(driver.counts()['refusals'][0], 1)

    def test_sentinels_that_do_not_help(self):
        with Sentinel() as group:
            with Driver(group.url().replace('mymaster', 'other'), node=NODE) as driver:
                answer = driver.push(RATE, more={'timeout_ms': 300})
                self.assertRegex(answer['message'], '^tier_connect: .*sentinel_master')
            # Two of three are silent or gone: the third is asked in time.
            group.sentinels[0].pause()
            group.sentinels[1].kill()
            try:
                with Driver(group.url(), node=NODE, connect_timeout_ms=300) as driver:
                    total, _ = self.pushes_until_ok(driver, 0, timeout_ms=3000)
                    self.assertGreaterEqual(total, 1)
            finally:
                group.sentinels[0].resume()


if __name__ == '__main__':
    unittest.main()
