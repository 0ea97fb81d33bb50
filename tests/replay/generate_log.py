# SPDX-License-Identifier: MIT
"""Writes a log as a server would: bursts, crawlers, quiet clients, disorder, broken lines."""
import datetime
import random

AGENTS = [b'Mozilla/5.0 (X11; Linux x86_64)', b'curl/7.88.1', b'a \\"quoted\\" agent \\\\', b'-',
          b'caf\xc3\xa9 \xff\xfe\x00 \x1b[2J', b'x' * 700]
BROKEN = [b'-', b'garbage', b'\x00\x01\x02', b'192.0.2.1 - - [not a time] "GET / HTTP/1.1" 200 1',
          b'192.0.2.1 - - [99/Oct/2023:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-"',
          b'192.0.2.1 - - [10/Oct/2023:00:00:00 +0000] "GET / HTTP/1.1', b'y' * 70000]
START = int(datetime.datetime(2023, 10, 29, 0, 0, tzinfo=datetime.timezone.utc).timestamp())


def address(client):
    if client % 3 == 0:
        return b'2001:db8:%x::%x' % (client % 7, client)
    return b'10.%d.%d.%d' % (client % 5, client // 256 % 256, client % 256)


def stamp(time, zone_hours):
    zone = datetime.timezone(datetime.timedelta(hours=zone_hours))
    return datetime.datetime.fromtimestamp(time, zone).strftime('%d/%b/%Y:%H:%M:%S %z').encode()


def write(path, lines, seed=1, clients=400, disorder=4):
    """`lines` requests, with broken and empty lines between them."""
    rng = random.Random(seed)
    time = START
    with open(path, 'wb') as log:
        for _ in range(lines):
            time += rng.choice((0, 0, 0, 0, 0, 0, 0, 1)) if rng.random() < 0.9995 else 90
            kind = rng.random()
            if kind < 0.15:
                client = 1  # a crawler
            elif kind < 0.25:
                client = 2 + time // 60 % 5  # one that comes in bursts
            else:
                client = min(int(rng.paretovariate(0.7)) + 6, clients)
            at = max(START, time - (rng.randint(0, disorder) if rng.random() < 0.05 else 0))
            request = b'GET /page/%d?q=%d HTTP/1.1' % (rng.randint(0, 9), rng.randint(0, 999))
            if rng.random() < 0.01:
                request = rng.choice((b'', b'-', b'\\x16\\x03\\x01', b'GET /a\\"b HTTP/1.1'))
            line = b'%s - %s [%s] "%s" %d %d' % (
                address(client), rng.choice((b'-', b'alice', b'bob [x] smith')),
                stamp(at, rng.choice((0, 2, -7))), request, rng.choice((200, 404)), 1234)
            if rng.random() < 0.8:
                line += b' "-" "%s"' % rng.choice(AGENTS)
            log.write(line + rng.choice((b'\n', b'\n', b'\r\n')))
            if rng.random() < 0.001:
                log.write(rng.choice(BROKEN) + b'\n')
            if rng.random() < 0.001:
                log.write(b'\n')
