# SPDX-License-Identifier: MIT
"""Real Redis servers for tests, as children on free loopback ports, and a proxy that loses things.

    with Single() as server, Proxy(server.address) as proxy: ...
    with Sentinel() as group: group.url(); group.kill_master()
    with Cluster() as cluster: cluster.url(); cluster.reshard(200, 0, 1)

Each is a context manager: at its end every server is killed by its process id and its directory is
removed, whatever happened; a server also dies with the thread that started it, so start them in the
main thread. All options are in files of mode 0600: nothing secret is in an argv.

What these have in common with servers elsewhere, learnt by trying:
  a cluster node also listens on its port + 10000, so both must be free;
  `--cluster create` returns before each node knows that all is well, and before replicas follow;
  a sentinel rewrites its configuration file, and finds only replicas that are there when it asks;
  a master that comes back calls itself master for ten seconds, until a sentinel demotes it.
"""
import contextlib
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import redis

GENEROUS_S = 90  # the end of every wait; none takes more than a few seconds on an idle machine


def wait_until(condition, what):
    """Looks until condition() is true (its value is returned); errors of Redis count as not yet."""
    end = time.monotonic() + GENEROUS_S
    while True:
        last = None
        try:
            value = condition()
            if value:
                return value
        except (redis.RedisError, OSError) as error:
            last = error
        if time.monotonic() > end:
            raise TimeoutError(f'not within {GENEROUS_S} s: {what} ({last})')
        time.sleep(0.02)


def free_port():
    """With the port 10000 above it; both below what the kernel gives to clients by itself."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(12000, 22000)
        with contextlib.ExitStack() as stack:
            try:
                for number in (port, port + 10000):
                    each = stack.enter_context(socket.socket())
                    each.bind(('127.0.0.1', number))
                return port
            except OSError:
                continue
    raise OSError('no two free ports')


class Server:
    """One redis-server. `options`: lines of its configuration; `users`: lines of ACL."""

    def __init__(self, *options, users=(), sentinel=False, tls=None, password=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix='brim-redis-'))
        self.sentinel, self.tls, self.password = sentinel, tls, password
        self.socket = str(self.directory / 'r.sock')
        self.options, self.users = list(options), list(users)
        self.child = None
        self.port = free_port()
        if password:
            self.options += [f'requirepass {password}', f'masterauth {password}']

    def start(self):
        """Also after kill(), on the same port."""
        for _ in range(20):
            self._write_configuration()
            binary = [shutil.which('redis-server'), str(self.directory / 'conf')]
            # The signal of a parent's death is kept over exec.
            self.child = subprocess.Popen(
                ['setpriv', '--pdeathsig', 'KILL', *binary] + ['--sentinel'] * self.sentinel,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda: self.child.poll() is not None or self.answers(), 'an answer')
            if self.child.poll() is None:
                return self
            self.port = free_port()  # somebody else was quicker
        raise OSError('redis-server: ' + (self.directory / 'log').read_text()[-2000:])

    def _write_configuration(self):
        listen = [f'port {self.port}']
        if self.tls:
            listen = ['port 0', f'tls-port {self.port}', f'tls-cert-file {self.tls.cert}',
                      f'tls-key-file {self.tls.key}', f'tls-ca-cert-file {self.tls.ca}',
                      'tls-auth-clients ' + ('yes' if self.tls.clients else 'no')]
        lines = listen + ['bind 127.0.0.1', f'dir {self.directory}', 'protected-mode no',
                          f'logfile {self.directory}/log']
        if not self.sentinel:
            lines += ['save ""', 'appendonly no', f'unixsocket {self.socket}',
                      'unixsocketperm 700', 'repl-diskless-sync-delay 0']
        conf = self.directory / 'conf'
        conf.touch(mode=0o600)
        conf.write_text('\n'.join(lines + self.options + self.users) + '\n')

    @property
    def address(self):
        return ('127.0.0.1', self.port)

    @property
    def pid(self):
        return self.child.pid

    def url(self, credentials='', query=''):
        scheme = 'rediss' if self.tls else 'redis'
        if not credentials and self.password:
            credentials = f':{self.password}@'
        return f'{scheme}://{credentials}127.0.0.1:{self.port}{query}'

    def client(self, **more):
        """An independent client, as the default user; over TLS it does not look at names."""
        if self.tls:
            more |= {'ssl': True, 'ssl_cert_reqs': None, 'ssl_certfile': self.tls.cert,
                     'ssl_keyfile': self.tls.key}
        return redis.Redis('127.0.0.1', self.port, password=self.password, socket_timeout=5, **more)

    def answers(self):
        with contextlib.closing(self.client()) as client:
            try:
                return client.ping()
            except redis.exceptions.AuthenticationError:
                return True  # alive, but the default user may not

    def pause(self):
        self.child.send_signal(signal.SIGSTOP)

    def resume(self):
        self.child.send_signal(signal.SIGCONT)

    def kill(self):
        """kill -9, at once."""
        if self.child is not None and self.child.poll() is None:
            self.child.kill()
            self.child.wait()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


Single = Server


class Group:
    """Servers that end together."""

    def __init__(self):
        self.servers = []

    def add(self, server):
        self.servers.append(server)
        return server.start()

    def __enter__(self):
        try:
            self.start()
            return self
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def close(self):
        for server in self.servers:
            server.close()


class Sentinel(Group):
    """A master, its replica and three sentinels that call it 'mymaster'."""

    name = 'mymaster'

    def __init__(self, *options, password=None):
        super().__init__()
        self.options, self.password = options, password

    def start(self):
        self.master = self.add(Server(*self.options, password=self.password))
        self.replica = self.add(Server(f'replicaof 127.0.0.1 {self.master.port}', *self.options,
                                       password=self.password))
        self.data = [self.master, self.replica]
        wait_until(lambda: self.replica.client().info('replication')['master_link_status'] == 'up',
                   'the replica follows')
        lines = [f'sentinel monitor {self.name} 127.0.0.1 {self.master.port} 2',
                 f'sentinel down-after-milliseconds {self.name} 500',
                 f'sentinel failover-timeout {self.name} 3000']
        if self.password:
            lines.append(f'sentinel auth-pass {self.name} {self.password}')
        self.sentinels = [self.add(Server(*lines, sentinel=True)) for _ in range(3)]
        for sentinel in self.sentinels:
            wait_until(lambda each=sentinel: self._complete(each), 'the sentinels know each other')

    def _complete(self, sentinel):
        state = sentinel.client().sentinel_master(self.name)
        return state['num-slaves'] >= 1 and state['num-other-sentinels'] >= 2

    def url(self, credentials='', db=0, query=''):
        hosts = ','.join(f'127.0.0.1:{each.port}' for each in self.sentinels)
        if not credentials and self.password:
            credentials = f':{self.password}@'
        return f'redis://{credentials}{hosts}/{db}?sentinel_master={self.name}{query}'

    def master_port(self):
        """Of whom the first sentinel names."""
        return self.sentinels[0].client().sentinel_get_master_addr_by_name(self.name)[1]

    def current_master(self):
        """The server that all sentinels name and that says the same of itself, or None."""
        ports = {each.client().sentinel_get_master_addr_by_name(self.name)[1]
                 for each in self.sentinels}
        for server in self.data:
            if ports == {server.port} and server.client().execute_command('ROLE')[0] == b'master':
                return server
        return None

    def kill_master(self):
        """kill -9 of the present master, which is returned; does not wait for the next."""
        server = wait_until(self.current_master, 'a master')
        server.kill()
        return server

    def wait_failover(self, old):
        return wait_until(lambda: (lambda new: new is not old and new)(self.current_master()),
                          'another master')


class Cluster(Group):
    """Three masters, servers[0..2], and (unless replicas=0) a replica of each."""

    def __init__(self, *options, replicas=1):
        super().__init__()
        self.options, self.replicas = options, replicas

    def start(self):
        for _ in range(3 + 3 * self.replicas):
            self.add(Server('cluster-enabled yes', 'cluster-config-file nodes.conf',
                            'cluster-node-timeout 1000', 'cluster-replica-validity-factor 0',
                            *self.options))
        self.cli('--cluster', 'create', *[f'127.0.0.1:{each.port}' for each in self.servers],
                 '--cluster-replicas', str(self.replicas), '--cluster-yes')
        for server in self.servers:
            wait_until(lambda each=server: each.client().cluster('INFO')['cluster_state'] == 'ok',
                       'the cluster is up')
        if self.replicas:
            for server in self.servers[:3]:
                wait_until(
                    lambda each=server: each.client().info('replication')['connected_slaves'] == 1,
                    'the replicas follow')

    @staticmethod
    def cli(*words):
        done = subprocess.run(['redis-cli', *words], capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise OSError(done.stdout[-2000:] + done.stderr[-2000:])

    def url(self, servers=None, credentials='', query=''):
        hosts = ','.join(f'127.0.0.1:{each.port}' for each in servers or self.servers[:3])
        return f'redis://{credentials}{hosts}{query}'

    @staticmethod
    def id_of(server):
        return server.client().execute_command('CLUSTER MYID').decode()

    def alive(self):
        return [each for each in self.servers if each.child.poll() is None]

    def owner(self, slot):
        """The server that has the slot, by its own word; None if none says so (yet)."""
        for server in self.alive():
            for first, last, master, *_ in server.client().execute_command('CLUSTER SLOTS'):
                if first <= slot <= last and master[1] == server.port:
                    return server
        return None

    def slot_of(self, key):
        return self.alive()[0].client().cluster('KEYSLOT', key)

    def reshard(self, count, source, target):
        """Moves `count` slots with their keys, from one of the servers (by number) to another."""
        self.cli('--cluster', 'reshard', f'127.0.0.1:{self.servers[source].port}',
                 '--cluster-from', self.id_of(self.servers[source]),
                 '--cluster-to', self.id_of(self.servers[target]),
                 '--cluster-slots', str(count), '--cluster-yes')

    @contextlib.contextmanager
    def migrating(self, slot, target, move_keys=True):
        """Inside, a slot is on its way to the server: who asks for a key that went gets an ASK.
        Afterwards the target has it."""
        source = wait_until(lambda: self.owner(slot), 'an owner')
        ids = self.id_of(source), self.id_of(target)
        target.client().cluster('SETSLOT', slot, 'IMPORTING', ids[0])
        source.client().cluster('SETSLOT', slot, 'MIGRATING', ids[1])
        if move_keys:
            self.move_keys(slot, source, target)
        yield source
        self.move_keys(slot, source, target)
        for server in (target, source, *self.alive()):
            with contextlib.suppress(redis.RedisError):  # replicas do not take it
                server.client().cluster('SETSLOT', slot, 'NODE', ids[1])

    @staticmethod
    def move_keys(slot, source, target):
        while keys := source.client().execute_command('CLUSTER', 'GETKEYSINSLOT', slot, 100):
            source.client().execute_command('MIGRATE', '127.0.0.1', target.port, '', 0, 5000,
                                            'REPLACE', 'KEYS', *keys)


class Certificates:
    """A new authority and a certificate for `names`, in files; clients=True: the server demands
    one of its clients too (this one will do)."""

    def __init__(self, directory, names='IP:127.0.0.1,DNS:localhost', days=2, clients=False,
                 authority=None):
        self.clients = clients
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.cert, self.key = str(directory / 'cert.pem'), str(directory / 'key.pem')
        self.ca, self.ca_key = (authority.ca, authority.ca_key) if authority else (
            str(directory / 'ca.pem'), str(directory / 'ca-key.pem'))
        new_key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
        if not authority:
            self.run('req', '-x509', *new_key, '-keyout', self.ca_key, '-out', self.ca,
                     '-days', '2', '-subj', '/CN=test authority')
        request, extra = str(directory / 'request.pem'), directory / 'extra.cnf'
        extra.write_text(f'subjectAltName = {names}\n')
        self.run('req', *new_key, '-keyout', self.key, '-out', request, '-subj', '/CN=server')
        self.run('x509', '-req', '-in', request, '-CA', self.ca, '-CAkey', self.ca_key,
                 '-CAcreateserial', '-out', self.cert, '-days', str(days), '-extfile', str(extra))
        if days == 0:  # over in this very second
            time.sleep(1.1)

    @staticmethod
    def run(*words):
        subprocess.run(['openssl', *words], check=True, capture_output=True, timeout=60)


class Proxy:
    """TCP between a client and `target` (host and port, or the path of a unix socket). `mode` may
    change at any time:
      'pass'          everything goes through, `delay_s` later in each direction
      'blackhole'     connections are accepted, and every byte is swallowed
      'drop_replies'  what the client says goes through, what the server says does not
      'cut_replies'   as soon as the server says something, the connection is cut instead
    cut() ends all connections; refuse() also stops listening, until accept()."""

    def __init__(self, target):
        self.target = target
        self.mode, self.delay_s = 'pass', 0
        self.port = free_port()
        self.connections = self.requests = self.bytes_up = self.bytes_down = 0
        self.sockets, self.lock, self.listener = set(), threading.Lock(), None

    def __enter__(self):
        self.accept()
        return self

    def __exit__(self, *_):
        self.refuse()

    @property
    def address(self):
        return ('127.0.0.1', self.port)

    def url(self, credentials='', query='', scheme='redis'):
        return f'{scheme}://{credentials}127.0.0.1:{self.port}{query}'

    def accept(self):
        if self.listener is None:
            self.listener = socket.create_server(self.address, backlog=64)
            threading.Thread(target=self._serve, args=(self.listener,), daemon=True).start()

    def refuse(self):
        listener, self.listener = self.listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self):
        with self.lock:
            ended, self.sockets = self.sockets, set()
        for each in ended:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _serve(self, listener):
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            server = socket.socket(socket.AF_UNIX if isinstance(self.target, str)
                                   else socket.AF_INET)
            try:
                server.connect(self.target)
            except OSError:
                client.close()
                continue
            with self.lock:
                self.sockets |= {client, server}
            for way in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=way, daemon=True).start()

    def _pump(self, source, sink, up):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                mode = self.mode
                if up:
                    self.requests, self.bytes_up = self.requests + 1, self.bytes_up + len(data)
                else:
                    self.bytes_down += len(data)
                if self.delay_s:
                    time.sleep(self.delay_s)
                if mode == 'blackhole' or mode == 'drop_replies' and not up:
                    continue
                if mode == 'cut_replies' and not up:
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self.lock:
            self.sockets -= {source, sink}
