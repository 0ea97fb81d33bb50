# SPDX-License-Identifier: MIT
"""An exact and slow model of `brim replay`, written apart from it: its own log parser, sort, token
bucket in fractions, window counts and percentiles."""
import datetime
import re
from collections import defaultdict, deque
from fractions import Fraction
from math import ceil

LINE = re.compile(
    rb'^([^ ]+) - (.*?) \[(\d\d/\w\w\w/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] '
    rb'"((?:[^"\\]|\\.)*)" (\d+) (\d+|-)(?: "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)")?', re.S)


def escape(key):
    return ''.join(chr(c) if 0x21 <= c <= 0x7e and c not in b'%"\\,' else '%%%02X' % c for c in key)


def parse(line):
    """(seconds since 1970, address, path), or None."""
    match = LINE.match(line)
    if match is None:
        return None
    try:
        stamp = datetime.datetime.strptime(match[3].decode(), '%d/%b/%Y:%H:%M:%S %z')
    except ValueError:
        return None
    words = match[4].split(b' ')
    path = words[1].split(b'?')[0] if len(words) > 1 and words[0] else b'-'
    return int(stamp.timestamp()), escape(match[1]), escape(path or b'-')


def read(path):
    """[(time, (address, path))] in file order, and the numbers of broken lines."""
    requests, broken = [], []
    with open(path, 'rb') as log:
        for number, line in enumerate(log, 1):
            line = line.rstrip(b'\n')
            if line.endswith(b'\r'):
                line = line[:-1]
            if not line:
                continue
            parsed = parse(line) if len(line) <= 65536 else None
            if parsed is None:
                broken.append(number)
            else:
                requests.append((parsed[0], parsed[1:]))
    return requests, broken


def reorder(requests, window):
    """Sorted where a line is at most `window` late; later ones happen at the line before them."""
    held, out, newest, last = [], [], None, None
    for sequence, (time, key) in enumerate(requests):
        if last is not None and time < last:
            time = last
        newest = time if newest is None else max(newest, time)
        held.append((time, sequence, key))
        held.sort()
        while held[0][0] < newest - window:
            time, _, key = held.pop(0)
            last = time
            out.append((time, key))
    return out + [(time, key) for time, _, key in held]


def refusals(requests, limit, period, burst):
    """{client: requests refused} by a token bucket of `burst`, refilled at limit/period."""
    rate = Fraction(limit, period)
    state, refused = {}, defaultdict(int)
    for time, key in requests:
        level, last = state.get(key, (Fraction(burst), time))
        level = min(Fraction(burst), level + (time - last) * rate)
        if level >= 1:
            level -= 1
        else:
            refused[key] += 1
        state[key] = (level, time)
    return dict(refused)


def refusals_of_all(requests, rules):
    """The same of several buckets (limit, period, burst) at once: all take a permit or none."""
    state, refused = {}, defaultdict(int)
    for time, key in requests:
        levels, last = state.get(key, ([Fraction(rule[2]) for rule in rules], time))
        levels = [min(Fraction(burst), level + (time - last) * Fraction(limit, period))
                  for level, (limit, period, burst) in zip(levels, rules)]
        if min(levels) >= 1:
            levels = [level - 1 for level in levels]
        else:
            refused[key] += 1
        state[key] = (levels, time)
    return dict(refused)


def log_refusals(requests, limit, period):
    """{client: requests refused} by `limit` in any half-open window of `period`."""
    recent, refused = defaultdict(deque), defaultdict(int)
    for time, key in requests:
        times = recent[key]
        while times and time - times[0] >= period:
            times.popleft()
        if len(times) < limit:
            times.append(time)
        else:
            refused[key] += 1
    return dict(refused)


def peaks(requests, window):
    """{client: most requests in any half-open window}, and the same for all together."""
    recent, most = defaultdict(deque), defaultdict(int)
    for time, key in requests:
        for one in (key, None):
            times = recent[one]
            times.append(time)
            while time - times[0] >= window:
                times.popleft()
            most[one] = max(most[one], len(times))
    together = most.pop(None)
    return dict(most), together


def least_bursts(requests, limit, period):
    """{client: least burst that refuses nothing}."""
    rate = Fraction(limit, period)
    debts, most = {}, defaultdict(Fraction)
    for time, key in requests:
        debt, last = debts.get(key, (Fraction(0), time))
        debt = max(Fraction(0), debt - (time - last) * rate) + 1
        debts[key] = (debt, time)
        most[key] = max(most[key], debt)
    return {key: ceil(debt) for key, debt in most.items()}


def percentile(values, percent):
    """Nearest rank; `percent` is a string."""
    ordered = sorted(values)
    return ordered[ceil(Fraction(percent) * len(ordered) / 100) - 1]
