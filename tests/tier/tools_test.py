#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: `brim agent --tier` makes one limit of several segments, tells how that goes, and never
shows a password; a store that hangs delays no snapshot. Method: the real binary and a real Redis on
loopback, stopped, killed and locked with passwords; every wait is for what is to be seen."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile

from redis_servers import Proxy, Single, wait_until
from support import BRIM, FAILURE, OK, BrimTest, brim, main

SECRET = 'p4ssw0rd-of-the-store'
GUIDE = pathlib.Path(os.environ['BRIM_ROOT'], 'docs', 'guides', 'redis.md')


class TierTest(BrimTest):
    def start(self, *options, **more):
        server = Single(*options, **more).start()
        self.addCleanup(server.close)
        return server

    def segment(self, policy='p=100/d scope cluster'):
        return self.create('--capacity', '1k', policy=policy)

    def agent(self, name, *options, **env):
        """Exchanges often, and is ended with the test. What it says is in agent.log."""
        log = tempfile.NamedTemporaryFile(prefix='brim-agent')
        self.addCleanup(log.close)
        agent = subprocess.Popen([BRIM, 'agent', name, '--tier-interval', '20ms',
                                  '--tier-forget', '3s', *options],
                                 stderr=log, env={**os.environ, **env})
        agent.log = lambda: pathlib.Path(log.name).read_text(encoding='ascii')
        self.addCleanup(agent.wait)
        self.addCleanup(agent.kill)
        return agent

    def status(self, name):
        done = brim('tier', 'status', name, '--format', 'json')
        told = json.loads(done.text)['tier']
        self.assertEqual(done.code, OK if told['state'] == 'up' else FAILURE, told)
        return told

    def wait_state(self, name, state, agent=None):
        def look():
            if agent is not None and agent.poll() is not None:
                raise AssertionError(f'the agent has ended: {agent.log()}')
            told = self.status(name)
            return told if told['state'] == state else None
        return wait_until(look, f'{name} is {state}')

    def end(self, agent):
        agent.send_signal(signal.SIGTERM)
        self.assertEqual(agent.wait(), 0, agent.log())

    def cost(self, name, permits):
        return brim('try', name, 'k', '--cost', str(permits)).code

    def used(self, name):
        """Of 100, as this segment sees it."""
        text = self.good('try', name, 'k', '--cost', '0', '--format', 'json').text
        return 100 - json.loads(text)['remaining']


class Nodes(TierTest):
    def test_one_limit_of_two_segments(self):
        server = self.start()
        one, two = self.segment(), self.segment()
        agents = [self.agent(name, '--tier', server.url()) for name in (one, two)]
        for name in one, two:
            self.wait_state(name, 'up')
            wait_until(lambda name=name: self.status(name)['nodes'] == 2, 'they have met')
        self.assertEqual(self.cost(one, 60), OK)
        self.assertEqual(self.cost(two, 30), OK)
        for name in one, two:
            wait_until(lambda name=name: self.used(name) >= 89, 'both know what both used')
            self.assertNotEqual(self.cost(name, 20), OK)
        told = self.status(one)
        self.assertGreater(told['pushes'], 0)
        self.assertEqual((told['store'], told['error'], told['share_ppm']),
                         (f'redis://127.0.0.1:{server.port}', '', 1000000))
        self.assertEqual(told['agent_pid'], agents[0].pid)
        self.assertIn(f'\nbrim_tier_up{{segment="{one}"}} 1\n', self.good('metrics', one).text)
        self.assertIn('tier_store', brim('doctor', one).text)

        nodes = self.nodes(one, server)
        uuids = {node['uuid']: node for node in nodes}
        self.assertEqual([node['self'] for node in nodes].count(True), 1)
        text = self.good('tier', 'nodes', one, '--tier', server.url()).text
        self.assertEqual(text.count('this one'), 1)
        other = next(uuid for uuid, node in uuids.items() if not node['self'])
        # One that ends leaves by itself; one that dies is taken out by hand.
        self.end(agents[0])
        wait_until(lambda: len(self.nodes(two, server)) == 1, 'the first has left')
        agents[1].kill()
        agents[1].wait()
        self.good('tier', 'remove', other, '--tier', server.url())
        self.assertEqual([node for node in self.nodes(one, server) if node['uuid'] == other], [])

    def nodes(self, name, server):
        text = self.good('tier', 'nodes', name, '--tier', server.url(), '--format', 'json').text
        return json.loads(text)['nodes']

    def test_store_that_hangs_or_dies(self):
        server = self.start()
        name = self.segment()
        agent = self.agent(name, '--tier', server.url(), '--tier-timeout', '200ms',
                           '--tier-hold', '0s', '--tier-share', '25%')
        self.wait_state(name, 'up', agent)
        server.pause()
        self.assertEqual(self.cost(name, 60), OK)  # something to tell
        told = self.wait_state(name, 'down', agent)
        self.assertRegex(told['error'], r'^tier_\w+: ')
        wait_until(lambda: self.status(name)['share_ppm'] == 250000, 'the share')
        found = {each['check']: each['level'] for each in
                 json.loads(brim('doctor', name, '--format', 'json').text)['findings']}
        self.assertEqual((found['tier_store'], found['tier_share']), ('error', 'warning'))
        self.assertIn(f'brim_tier_up{{segment="{name}"}} 0\n', self.good('metrics', name).text)
        server.resume()
        self.wait_state(name, 'up', agent)
        wait_until(lambda: self.status(name)['share_ppm'] == 1000000, 'whole rates')
        server.kill()
        self.assertEqual(self.cost(name, 30), OK)
        self.wait_state(name, 'down', agent)
        self.end(agent)

    def test_snapshots_do_not_wait(self):
        server = self.start()
        name = self.segment()
        with tempfile.TemporaryDirectory() as folder, Proxy(server.address) as proxy:
            file = os.path.join(folder, 's.db')
            agent = self.agent(name, '--tier', proxy.url(), '--tier-timeout', '1m', '--file',
                               file, '--interval', '20ms')
            self.wait_state(name, 'up', agent)
            proxy.mode = 'blackhole'
            self.assertEqual(self.cost(name, 60), OK)
            taken = lambda: json.loads(self.good('info', name, '--format', 'json').text)[
                'snapshot_generation']
            before = taken()
            # The exchange takes as long as it may: a minute.
            wait_until(lambda: taken() >= before + 5, 'snapshots go on')
            self.assertNotEqual(self.status(name)['state'], 'down')
            self.assertEqual(self.cost(name, 5), OK)
            proxy.refuse()
            self.end(agent)
            shown = json.loads(self.good('snapshot', 'show', file, '--format', 'json').text)
            self.assertGreater(shown['keys'][0]['permits_used'], 64)

    def test_systemd_is_told(self):
        server = self.start()
        name = self.segment()
        with tempfile.TemporaryDirectory() as folder, \
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.bind(os.path.join(folder, 'notify'))
            own.settimeout(90)
            agent = self.agent(name, BRIM_TIER_URL=server.url(),
                               NOTIFY_SOCKET=os.path.join(folder, 'notify'))
            self.assertEqual(own.recv(65536), b'READY=1')
            self.wait_state(name, 'up', agent)
            self.end(agent)
            self.assertEqual(own.recv(65536), b'STOPPING=1')


class Secrets(TierTest):
    def seen(self, agent, name):
        """All that others may see of an agent and its segment."""
        seen = pathlib.Path(f'/proc/{agent.pid}/cmdline').read_bytes() + agent.log().encode()
        for args in (['tier', 'status', name], ['info', name], ['info', name, '--format', 'json'],
                     ['doctor', name], ['metrics', name],
                     ['top', name, '--count', '1', '--interval', '10ms']):
            done = brim(*args)
            seen += done.out + done.err
        return seen + pathlib.Path('/dev/shm', name).read_bytes()

    def test_ways_to_give_a_password(self):
        server = self.start(password=SECRET)
        bare = f'redis://127.0.0.1:{server.port}'
        with tempfile.TemporaryDirectory() as folder:
            password, url = os.path.join(folder, 'password'), os.path.join(folder, 'url')
            for path, text in (password, SECRET), (url, server.url()):
                with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), 'w',
                          encoding='ascii') as file:
                    file.write(text + '\n')
            for options, env in [(['--tier', bare, '--tier-password-file', password], {}),
                                 (['--tier-url-file', url], {}),
                                 ([], {'BRIM_TIER_URL': server.url()}),
                                 (['--tier', bare], {'BRIM_TIER_PASSWORD': SECRET})]:
                name = self.segment()
                agent = self.agent(name, *options, **env)
                self.wait_state(name, 'up', agent)
                listed = brim('tier', 'nodes', name, *options, env={**os.environ, **env})
                self.assertEqual((listed.code, listed.err), (OK, b''))
                self.assertNotIn(SECRET.encode(), self.seen(agent, name) + listed.out)
                self.end(agent)

    def test_wrong_password(self):
        server = self.start(password='another-one')
        name = self.segment()
        agent = self.agent(name, BRIM_TIER_PASSWORD=SECRET, BRIM_TIER_URL=(
            f'redis://127.0.0.1:{server.port}'))
        told = self.wait_state(name, 'down', agent)
        wait_until(lambda: self.status(name)['error'], 'an error')
        self.assertIn('tier_auth', self.status(name)['error'], told)
        listed = brim('tier', 'nodes', name, env={
            **os.environ, 'BRIM_TIER_URL': f'redis://:{SECRET}@127.0.0.1:{server.port}'})
        self.assertIn('tier_auth', listed.message)
        self.assertNotIn(SECRET.encode(), self.seen(agent, name) + listed.out + listed.err)
        self.end(agent)

    def test_rights_of_the_guide(self):
        """The line of the guide is enough for all an agent does on one server."""
        line = re.search(r'(?m)^ACL SETUSER limits on >PASSWORD (.*)$',
                         GUIDE.read_text(encoding='utf-8')).group(1)
        server = self.start(users=[f'user limits on >{SECRET} {line}'])
        client = server.client()
        name = self.segment()
        agent = self.agent(name, '--tier', server.url(), '--tier-user', 'limits',
                           BRIM_TIER_PASSWORD=SECRET)
        self.wait_state(name, 'up', agent)
        self.assertEqual(self.cost(name, 60), OK)
        wait_until(lambda: self.status(name)['pushes'] > 1, 'exchanges')
        self.good('tier', 'nodes', name, '--tier', server.url(), '--tier-user', 'limits',
                  env={**os.environ, 'BRIM_TIER_PASSWORD': SECRET})
        self.end(agent)
        self.assertEqual(client.execute_command('ACL LOG'), [])
        self.assertEqual({key.split(b':')[0] for key in client.keys()}, {b'brim'})
        # And each of its words is for something: it was called here, or is for elsewhere.
        elsewhere = {'role', 'select', 'asking', 'cluster|slots', 'hkeys', 'hget', 'eval'}
        called = {key.removeprefix('cmdstat_') for key in client.info('commandstats')}
        words = {word[1:] for word in line.split() if word.startswith('+')}
        self.assertEqual(words - elsewhere - called, set())


if __name__ == '__main__':
    main()
