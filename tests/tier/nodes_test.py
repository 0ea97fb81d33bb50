# SPDX-License-Identifier: MIT
"""Nodes of one machine, each a segment with an agent and a load of its own, and a real Redis.

What was admitted is put together by the clock that they share, and run through one bucket of the
policy: the most by which that would have overflown is the nodes' excess, measured against the
formula of docs/concepts/cluster.md."""
import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from redis_servers import Cluster, Proxy, Server, wait_until  # noqa: E402

INTERVAL_MS = 200


class Node:
    """tests/tier/tier_node.cc at the end of a pipe."""
    made = 0

    def __init__(self, url, policy, name=None, **tier):
        Node.made += 1
        self.name = name or f'brim-tier-{os.getpid()}-{Node.made}'
        self.child = subprocess.Popen([os.environ['BRIM_TIER_NODE']], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        self.say(open={'name': self.name, 'policy': policy,
                       'tier': {'url': url, 'interval_ms': INTERVAL_MS, 'forget_ms': 3000, **tier}})

    def say(self, **message):
        self.child.stdin.write(json.dumps(message) + '\n')
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise EOFError(f'the node ended: {self.child.wait()}')
        answer = json.loads(line)
        if 'error' in answer and 'up' not in answer:
            raise RuntimeError(answer['error'])
        return answer

    def start(self, nodes=0):
        self.say(agent='start')
        return self.until(lambda s: s['up'] and s['nodes'] >= nodes, 'the agent is up')

    def status(self):
        return self.say(status=1)

    def until(self, condition, what):
        def look():
            status = self.status()
            return status if condition(status) else None
        return wait_until(look, what)

    def admitted(self, key, calls):
        return self.say(burst={'key': key, 'calls': calls})['admitted']

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        pathlib.Path('/dev/shm', self.name).unlink(missing_ok=True)
        for left in pathlib.Path('/dev/shm').glob(f'.*{self.name}*'):
            left.unlink(missing_ok=True)

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()


def overflow(times, rate, burst):
    """The most by which a bucket that is charged at `times` (ns) would owe more than `burst`."""
    owed, last, most = 0.0, None, 0.0
    for at in sorted(times):
        if last is not None:
            owed = max(0.0, owed - rate * (at - last) * 1e-9)
        owed, last = owed + 1, at
        most = max(most, owed - burst)
    return most


class Load:
    """Runs loads on nodes at the same time and watches how late their agents are meanwhile."""

    def __init__(self, *loads, during=None):
        self.lag_s = 0.0
        with concurrent.futures.ThreadPoolExecutor(len(loads) + 1) as pool:
            runs = [pool.submit(node.say, run=run) for node, run in loads]
            if during is not None:
                during()
            self.answers = [run.result() for run in runs]
        for node, _ in loads:
            status = node.status()
            self.lag_s = max(self.lag_s, status['lag_ns'] * 1e-9, status['trip_ns'] * 1e-9)
        self.times = [at for answer in self.answers for at in answer['times']]
        self.span_s = (max(self.times) - min(self.times)) * 1e-9 if self.times else 0.0


def staleness_s(lag_s):
    """D of the formula: a use is told within an interval and a round; the others ask as often."""
    return 2 * (INTERVAL_MS * 1e-3 + max(lag_s, 0.05))


class NodesTest(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(Server())

    def node(self, policy, url=None, **tier):
        return self.enterContext(Node(url or self.server.url(), policy, **tier))

    def test_excess_under_uneven_load(self):
        """P13: the excess is within the formula, with two and three nodes, and paid back."""
        for rate, burst, shares in ((200, 50, (1.5, 0.7)), (50, 100, (2.0, 0.3, 0.3)),
                                    (400, 20, (0.6, 0.6, 0.6)), (20, 5, (8, 1, 1))):
            with self.subTest(rate=rate, burst=burst, nodes=len(shares)):
                self.one_run(rate, burst, shares)

    def one_run(self, rate, burst, shares):
        nodes = [self.node(f'{rate}/s burst {burst} scope cluster') for _ in shares]
        try:
            for node in nodes:
                node.start()
            for node in nodes:
                node.until(lambda s: s['nodes'] >= len(nodes), 'all have met')
            load = Load(*[(node, {'key': 'k', 'seconds': 2.5, 'rate': rate * share})
                          for node, share in zip(nodes, shares)])
            bound = (len(nodes) - 1) * (burst + rate * staleness_s(load.lag_s))
            excess = overflow(load.times, rate, burst)
            sent = sum(answer['sent'] for answer in load.answers)
            print(f'{len(nodes)} nodes, {rate}/s burst {burst}: {len(load.times)} of {sent} '
                  f'admitted, excess {excess:.0f}, bound {bound:.0f}, lag {load.lag_s:.3f} s')
            self.assertLessEqual(excess, bound)
            # What was too much at first is paid back: in the end no more than the bound beyond.
            self.assertLessEqual(len(load.times), burst + rate * load.span_s + bound)
            # And nearly all that the policy allows is admitted to whoever asks.
            self.assertGreaterEqual(len(load.times), 0.6 * min(sent, burst + rate * load.span_s))
        finally:
            for node in nodes:
                node.say(agent='stop')

    def test_a_lone_node_has_the_whole_limit(self):
        """Others are there and idle: no share is kept for them."""
        nodes = [self.node('200/s burst 20 scope cluster') for _ in range(3)]
        for node in nodes:
            node.start()
        load = Load((nodes[0], {'key': 'k', 'seconds': 2.5, 'rate': 500}))
        allowed = 20 + 200 * load.span_s
        self.assertLessEqual(len(load.times), allowed + 1)
        self.assertGreaterEqual(len(load.times), 0.85 * allowed)
        self.assertEqual(overflow(load.times, 200, 21), 0)

    def test_what_one_used_another_knows(self):
        a, b = (self.node('20/d scope cluster') for _ in range(2))
        a.start()
        b.start()
        self.assertEqual(a.admitted('k', 40), 20)
        self.assertEqual(b.admitted('k', 1), 1)  # b has not heard of it, and tells
        wait_until(lambda: b.admitted('k', 1) == 0, 'b knows what a used')
        self.assertLessEqual(b.admitted('k', 40), 0)
        self.assertEqual(b.admitted('other', 40), 20)

    def test_a_flushed_key_stays_refused(self):
        """What the store lost comes back from the nodes, to those who ask and to newcomers."""
        a, b, late = (self.node('20/d scope cluster') for _ in range(3))
        a.start()
        b.start()
        self.assertEqual(a.admitted('k', 40), 20)
        b.admitted('k', 1)
        wait_until(lambda: b.admitted('k', 1) == 0, 'b knows')
        self.server.client().flushall()
        self.assertEqual(b.admitted('k', 20), 0)
        late.start()
        wait_until(lambda: self.server.client().keys('brim:p:*'), 'the store has it again')
        late.admitted('k', 1)
        wait_until(lambda: late.admitted('k', 1) == 0, 'a newcomer knows')
        self.assertEqual(a.admitted('k', 20) + b.admitted('k', 20) + late.admitted('k', 20), 0)

    def test_what_one_gave_back_is_told(self):
        """Also of a key that owes nothing any more."""
        node = self.node('20/d scope cluster')
        node.start()
        client = self.server.client()

        def told():
            keys = client.keys('brim:p:*')
            return [int(value) for name, value in client.hgetall(keys[0]).items()
                    if b'.' in name] if keys else []
        self.assertEqual(node.admitted('k', 12), 12)
        wait_until(lambda: told() == [12], 'the store knows what was used')
        node.say(refund={'key': 'k', 'permits': 12})
        # What has flowed back meanwhile is not given back: a permit of which some has is kept.
        wait_until(lambda: told()[0] <= 1, 'the store knows what was given back')

    def test_a_part_of_the_store_is_away(self):
        """A master of a cluster dies for good, the others answer: of its keys, other nodes are
        taken to go on as they did."""
        rate, burst = 100, 20
        policy = f'{rate}/s burst {burst} scope cluster'
        with Cluster('cluster-require-full-coverage no', replicas=0) as cluster:
            nodes = [self.node(policy, url=cluster.url()) for _ in range(2)]
            beside = [self.node(policy, name=node.name, url=cluster.url()) for node in nodes]
            for node in nodes:
                node.start()
            for node in nodes:
                node.until(lambda s: s['nodes'] == 2, 'they have met')
            dies = next(s for s in cluster.servers if not s.client().keys('brim:{*'))
            gone = fine = None
            for i in range(100):
                nodes[0].admitted(f'k{i}', 2 * burst)  # and owes too little soon to be told again
                stored = wait_until(
                    lambda: [s for s in cluster.servers if s.client().keys('brim:p:*')],
                    'the key is told')
                if dies in stored:
                    gone = gone or f'k{i}'
                else:
                    fine = f'k{i}'
                if gone and fine:
                    break
                for server in stored:
                    for key in server.client().keys('brim:p:*'):
                        server.client().delete(key)

            def kill():
                time.sleep(2)
                dies.kill()
            loads = [(node, {'key': gone, 'seconds': 9, 'rate': 200}) for node in nodes]
            loads += [(node, {'key': fine, 'seconds': 9, 'rate': 100}) for node in beside]
            answers = Load(*loads, during=kill).answers[:2]
        excess = overflow([at for answer in answers for at in answer['times']], rate, burst)
        print(f'a part of the store away for 7 s: excess {excess:.0f}')
        self.assertLessEqual(excess, 0.5 * rate * 7)  # twice the rate would be 700

    def test_a_cut_off_node(self):
        """F54: both sides of a partition take traffic; it heals without a burst."""
        rate, burst, hold_s = 100, 30, 0.5
        with Proxy(self.server.address) as proxy:
            policy = f'{rate}/s burst {burst} scope cluster'
            a = self.node(policy, hold_ms=500, timeout_ms=200)
            b = self.node(policy, url=proxy.url(), hold_ms=500, timeout_ms=200)
            a.start()
            b.start()
            a.until(lambda s: s['nodes'] == 2, 'a knows of b')
            b.until(lambda s: s['nodes'] == 2, 'b knows of a')
            gone = {}

            def cut():
                time.sleep(1)
                proxy.refuse()
                gone['from'] = time.monotonic()
                time.sleep(2.5)
                proxy.accept()
                gone['to'] = time.monotonic()

            load = Load((a, {'key': 'k', 'seconds': 6, 'rate': 150}),
                        (b, {'key': 'k', 'seconds': 6, 'rate': 150}), during=cut)
            self.assertIsNone(b.status()['error'] or None)
            b.until(lambda s: s['up'] and s['share'] == 1000000, 'b is back with whole rates')
            away = gone['to'] - gone['from']
            # Detected by the next exchange; then hold; then half of the rate more than allowed.
            found_s = staleness_s(load.lag_s) + 0.2
            bound = burst + rate * (found_s + hold_s) + 0.5 * rate * (away + 1.5)
            excess = overflow(load.times, rate, burst)
            print(f'cut off for {away:.1f} s: excess {excess:.0f}, bound {bound:.0f}')
            self.assertLessEqual(excess, bound)
            # Paid back: what is admitted after it stays below what the rate allows.
            after = [at for at in load.times if at * 1e-9 > gone['to'] + 1.5]
            span = (max(load.times) * 1e-9) - gone['to'] - 1.5
            self.assertLessEqual(len(after), rate * span + burst)

    def test_a_stopped_store(self):
        """F55: the store hangs: requests go on, each node takes its share, and all heals."""
        rate, burst = 100, 30
        policy = f'{rate}/s burst {burst} scope cluster'
        a, b = (self.node(policy, hold_ms=300, timeout_ms=200) for _ in range(2))
        for node in (a, b):
            node.start()
        for node in (a, b):
            node.until(lambda s: s['nodes'] == 2, 'they have met')
        def stop():
            time.sleep(1)
            self.server.pause()
            try:
                time.sleep(2.5)
            finally:
                self.server.resume()

        load = Load((a, {'key': 'k', 'seconds': 5, 'rate': 150}),
                    (b, {'key': 'k', 'seconds': 5, 'rate': 150}), during=stop)
        bound = burst + rate * (staleness_s(load.lag_s) + 0.2 + 0.3 + 1)
        excess = overflow(load.times, rate, burst)
        print(f'stopped store: excess {excess:.0f}, bound {bound:.0f}')
        self.assertLessEqual(excess, bound)
        for node in (a, b):
            status = node.until(lambda s: s['up'] and s['share'] == 1000000, 'back to normal')
            self.assertGreater(status['errors'] + status['unknown'], 0)

    def test_a_slow_line(self):
        """A round trip takes longer than the time after which a key near its limit is due again:
        no exchange is cut off for that."""
        with Proxy(self.server.address) as proxy:
            node = self.node('100/s burst 20 scope cluster', url=proxy.url(), timeout_ms=2000)
            node.start()
            proxy.delay_s = 0.15
            Load((node, {'key': 'k', 'seconds': 8, 'rate': 200}))
            status = node.until(lambda s: s['trip_ns'] >= 3 * 10 ** 8, 'an exchange was answered')
            self.assertEqual((status['up'], status['errors'], status['unknown']), (True, 0, 0))

    def test_a_flushed_store_is_healed(self):
        rate, burst = 100, 50
        policy = f'{rate}/s burst {burst} scope cluster'
        a, b = (self.node(policy) for _ in range(2))
        for node in (a, b):
            node.start()
        client = self.server.client()

        def flush():
            for _ in range(4):
                time.sleep(0.7)
                client.flushall()

        load = Load((a, {'key': 'k', 'seconds': 4, 'rate': 150}),
                    (b, {'key': 'k', 'seconds': 4, 'rate': 150}), during=flush)
        bound = 2 * (burst + rate * staleness_s(load.lag_s))  # and what one loss costs at most
        excess = overflow(load.times, rate, burst)
        healed = a.status()['healed'] + b.status()['healed']
        print(f'flushed: excess {excess:.0f}, bound {bound:.0f}, healed {healed}')
        self.assertLessEqual(excess, bound)
        self.assertGreaterEqual(healed, 1)
        # A key at its limit stays there, though the store was emptied and nobody used it since.
        c, d = (self.node('50/d scope cluster') for _ in range(2))
        for node in (c, d):
            node.start()
        self.assertEqual(c.admitted('full', 100), 50)
        wait_until(lambda: d.admitted('full', 1) == 0, 'd knows')
        client.flushall()
        self.assertEqual(d.admitted('full', 20), 0)
        self.assertEqual(c.admitted('full', 20), 0)

    def test_killed_agents_tell_nothing_twice(self):
        """An agent is killed again and again; others take over; the store's totals are exact."""
        policy = '1000/d burst 1000000 scope cluster'
        node = self.node(policy)
        node.say(agent='stop')
        agents = []
        try:
            def another():
                agent = self.node(policy, name=node.name)
                agent.child.stdin.write(json.dumps({'agent': 'loop'}) + '\n')
                agent.child.stdin.flush()
                agents.append(agent)

            def kill_them():
                for _ in range(6):
                    another()
                    time.sleep(0.45)
                    if len(agents) > 1:
                        agents[-2].child.send_signal(signal.SIGKILL)
            another()
            wait_until(lambda: node.status()['up'], 'an agent is up')
            load = Load((node, {'key': 'k', 'seconds': 3.5, 'rate': 200000}), during=kill_them)
            client = self.server.client()

            def told():
                keys = client.keys('brim:p:*')
                fields = client.hgetall(keys[0]) if keys else {}
                return sum(int(value) for name, value in fields.items() if b'.' in name)

            admitted = len(load.times)
            # More than the burst matters, so that the last of it is told.
            admitted += node.admitted('k', 1000000 - admitted)
            wait_until(lambda: told() == admitted, f'{admitted} are told (now {told()})')
            time.sleep(0.5)
            self.assertEqual(told(), admitted)
        finally:
            for agent in agents:
                agent.kill()

    def test_nodes_come_and_go(self):
        a, b = (self.node('10/s scope cluster') for _ in range(2))
        a.start()
        b.start()
        a.until(lambda s: s['nodes'] == 2, 'two nodes')
        self.assertEqual(len(a.say(nodes=1)['nodes']), 2)
        b.say(agent='stop')  # leaves at once
        self.assertEqual([n['self'] for n in a.say(nodes=1)['nodes']], [True])
        b.start()
        b.kill()             # does not
        gone = [n['uuid'] for n in a.say(nodes=1)['nodes'] if not n['self']]
        self.assertEqual(len(gone), 1)
        a.say(remove=gone[0])
        self.assertEqual(len(a.say(nodes=1)['nodes']), 1)

    def test_strict_is_exact(self):
        policy = '30/d scope cluster strict on-unavailable deny'
        nodes = [self.node(policy) for _ in range(3)]
        for node in nodes:
            node.say(strict={'timeout_ms': 5000})
        for key in 'abcde':
            with concurrent.futures.ThreadPoolExecutor(3) as pool:
                got = list(pool.map(lambda node: node.admitted(key, 40), nodes))
            self.assertEqual(sum(got), 30, got)
        # What is refused here is not asked: a stopped store can not delay it.
        self.server.pause()
        try:
            answer = nodes[0].say(burst={'key': 'a', 'calls': 1000})
            self.assertEqual((answer['denied'], answer['unavailable']), (1000, 0))
        finally:
            self.server.resume()

    def test_strict_without_a_store(self):
        for word, admits in (('deny', 0), ('allow', 25)):
            node = self.node(f'30/d scope cluster strict on-unavailable {word}')
            node.say(strict={'timeout_ms': 50})
            self.assertEqual(node.admitted(word, 5), 5)
            self.server.pause()
            try:
                answer = node.say(burst={'key': word, 'calls': 300})
                # What on-unavailable admits is charged here: alone the node keeps to the limit.
                self.assertEqual(answer['admitted'], admits)
                self.assertEqual(answer['unavailable'], admits or 300)
                print(f'strict, stopped store: 300 calls in {answer["ns"] * 1e-6:.0f} ms')
                # 300 timeouts would be 15 s: the breaker asks a few times only.
                self.assertGreater(node.status()['calls'] + 1, 0)
            finally:
                self.server.resume()
            wait_until(lambda: node.say(burst={'key': 'k2', 'calls': 1})['unavailable'] == 0,
                       'the store is asked again')


if __name__ == '__main__':
    unittest.main(verbosity=2)
