#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws docs/concepts/img from real decisions.

    docs/tools/timeline.py build/examples/timeline [FOLDER]

examples/timeline.cc decides the same calls under each policy, on a clock that it turns itself; this
draws them. Nothing depends on the day or the machine, so tests/docs/pictures_test.py compares the
bytes. Coordinates are whole numbers of tenths of a pixel.
"""
import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'concepts' / 'img'

MS = 1000000
DAY = 86400 * 1000 * MS
LENGTH = 4200  # of the time line, in units: thousandths of a period of 1 s
STEP = 10      # between two looks at what remains

# The same calls for everybody: eight just before and eight just after the end of the first second,
# then one every 100 ms for 1.5 s, a pause, and eight again.
TIMES = [(900, 8), (1000, 8)] + [(t, 1) for t in range(1100, 2600, 100)] + [(3700, 8)]


class Picture:
    """One policy, its calls, and how time is counted."""

    def __init__(self, policy, cost=1, unit=MS, first_window=0, label=lambda t: f'{t // 1000} s',
                 ticks=range(0, LENGTH + 1, 1000), times=None):
        self.policy = policy
        self.cost = cost
        self.unit = unit
        self.first_window = first_window
        self.label = label
        self.ticks = ticks
        self.times = times or [(t, n, cost) for t, n in TIMES]


# A month's pictures count in 28000ths of 28 days; March has 31 days, so it ends later.
MONTHS = {0: '1 February', 1000: '1 March', 2107: '1 April', 3179: '1 May'}

PICTURES = {
    'gcra': Picture('5/s'),
    'debt': Picture('token-bucket 5/s debt 3'),
    'forward': Picture('5/s forward', cost=3),
    'queue': Picture('queue 5/s burst 5'),
    'queue-delay-after': Picture('queue 5/s burst 5 delay-after 2'),
    'fixed-window': Picture('fixed-window 5/s'),
    'first-hit': Picture('fixed-window 5/s first-hit'),
    'calendar-window': Picture('calendar-window 5/month', unit=28 * DAY // 1000,
                               first_window=28 * DAY, label=MONTHS.get, ticks=MONTHS),
    'sliding-log': Picture('sliding-log 5/s'),
    'sliding-counter': Picture('sliding-counter 5/s'),
    'concurrency': Picture('concurrency 3 ttl 1s', times=[
        (t, n, 600 if t < 1500 else 5000) for t, n in TIMES]),
    'rates': Picture('5/s; 8/3s'),
    'ban': Picture('5/s ban 8 in 1s for 2s'),
    'warm-up': Picture('5/s warm-up 10% over 4s'),
}
OVERVIEW = ['gcra', 'debt', 'queue', 'fixed-window', 'first-hit', 'sliding-log', 'sliding-counter',
            'rates']

WIDTH, LEFT, RIGHT = 760, 64, 16
END = (WIDTH - RIGHT) * 10  # of the time line, in tenths of a pixel
# Plain rules, since not every viewer knows CSS variables; the second half is for dark screens.
STYLE = '''<style>
text { font: 12px system-ui, sans-serif; }
.policy { font: bold 13px ui-monospace, monospace; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.yes, .no { stroke-width: 1.2; }
.no, .axis, .edge, .level, .wait { fill: none; }
.edge { stroke-dasharray: 3 3; }
.level { stroke-width: 1.5; }
.wait { stroke-width: 0.8; }
''' + ''.join(theme.format(rules=f'''.back {{ fill: {back}; }}
text {{ fill: {text}; }}
.axis {{ stroke: {line}; }}
.edge {{ stroke: {text}; }}
.yes {{ fill: {yes}; }}
.yes, .level, .wait {{ stroke: {yes}; }}
.no {{ stroke: {no}; }}
''') for theme, back, text, line, yes, no in (
    ('{rules}', '#ffffff', '#24292f', '#c5ccd3', '#0969da', '#a40e26'),
    ('@media (prefers-color-scheme: dark) {{\n{rules}}}\n',
     '#0d1117', '#e6edf3', '#444c56', '#58a6ff', '#ff7b72'))) + '</style>'


class Call:
    """One line of the program: times in ns, `retry` -1 for never."""

    def __init__(self, line):
        what, *numbers = line.split()
        self.what = what
        (self.time, self.cost, self.admitted, self.delay, self.remaining, self.retry,
         self.reset) = map(int, numbers)


def decide(program, picture):
    """What the program says of the picture's calls, and of a look every STEP units."""
    times = [(t, 1, f'{t}x{n}*{cost}') for t, n, cost in picture.times]
    if not picture.policy.startswith('concurrency'):
        times += [(t, 0, f'{t}*0') for t in range(0, LENGTH + 1, STEP)]
    done = subprocess.run(
        [program, '-u', str(picture.unit), '-w', str(picture.first_window), picture.policy,
         *(text for _, _, text in sorted(times))],
        check=True, capture_output=True, text=True)
    return [Call(line) for line in done.stdout.splitlines()]


def tenths(number):
    return f'{number // 10}.{number % 10}' if number % 10 else f'{number // 10}'


def across(picture, time_ns):
    """Where a time stands, in tenths of a pixel."""
    return LEFT * 10 + time_ns * (WIDTH - LEFT - RIGHT) * 10 // (LENGTH * picture.unit)


def escape(text):
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')


def seconds(picture, time_ns):
    if picture.unit != MS:
        return f'{tenths(time_ns * 10 // DAY)} days'
    return f'{time_ns // (100 * MS) / 10:g} s'


def marks(picture, calls, base, step):
    """A filled or hollow mark for each call; those of one instant stand on each other."""
    at, out = {}, []
    radius = tenths(step * 4)
    for call in calls:
        if call.what not in ('call', 'lease'):
            continue
        row = at[call.time] = at.get(call.time, -1) + 1
        out.append(f'<circle class="{"yes" if call.admitted else "no"}" '
                   f'cx="{tenths(across(picture, call.time))}" '
                   f'cy="{tenths((base - step // 2 - row * step) * 10)}" r="{radius}"/>')
    return out


def described(picture, calls):
    """The picture in words: how many of the calls of each instant were admitted."""
    counts, order = {}, []
    for call in calls:
        if call.what in ('call', 'lease'):
            if call.time not in counts:
                counts[call.time] = [0, 0]
                order.append(call.time)
            counts[call.time][0] += call.admitted
            counts[call.time][1] += 1
    cost = f' of {picture.cost} permits each' if picture.cost != 1 else ''
    return f'Calls{cost} and how many were admitted: ' + ', '.join(
        f'{counts[t][0]} of {counts[t][1]} at {seconds(picture, t)}' for t in order) + '.'


def starts(picture, calls, base):
    """Of a queue: a line from each call to where it starts, and a mark there."""
    out, row = [], 0
    for call in calls:
        if call.what != 'call' or not call.admitted:
            continue
        begin, end = across(picture, call.time), across(picture, call.time + call.delay)
        y = base - 5 - row % 8 * 6
        row += 1
        last = min(end, END)
        out.append(f'<path class="wait" d="M{tenths(begin)} {y}H{tenths(last)}"/>')
        if end > last:
            continue
        out.append(f'<path class="yes" d="M{tenths(end)} {y - 3}v6l5 -3z"/>')
    return out


def bars(picture, calls, base):
    """Of leases: each from its beginning to its release, or to where it ended by itself."""
    out, lanes = [], []
    for call in calls:
        if call.what != 'lease' or not call.admitted:
            continue
        released = call.cost <= call.reset
        end = call.time + min(call.cost, call.reset)
        lane = next((i for i, until in enumerate(lanes) if until <= call.time), len(lanes))
        lanes[lane:lane + 1] = [end]
        x, right = across(picture, call.time), min(across(picture, end), END)
        y = base - 16 - lane * 18
        out.append(f'<rect class="{"yes" if released else "level"}" x="{tenths(x)}" y="{y}" '
                   f'width="{tenths(right - x)}" height="12"/>')
    return out


def level(picture, calls, base, height):
    """What remains, as a step line, and the axis beside it."""
    most = max(call.remaining for call in calls)
    path, last = [], None
    for call in calls:
        y = tenths((base - 6) * 10 - call.remaining * (height - 16) * 10 // most)
        if y == last:
            continue
        x = tenths(across(picture, call.time))
        path.append(f'M{x} {y}' if last is None else f'H{x}V{y}')
        last = y
    path.append(f'H{WIDTH - RIGHT}')
    out = [f'<path class="level" d="{"".join(path)}"/>']
    for value in (0, most):
        y = base - 2 - value * (height - 16) // most
        out.append(f'<text class="end" x="{LEFT - 6}" y="{y}">{value}</text>')
    return out


def window_ends(picture, calls):
    """Where windows end, by what the decisions say."""
    if 'window' not in picture.policy:
        return []
    return sorted({c.time + c.reset for c in calls if c.reset and c.what != 'release'})


def svg(title, words, height, body):
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-labelledby="title words">',
        f'<title id="title">{escape(title)}</title>', f'<desc id="words">{escape(words)}</desc>',
        STYLE, f'<rect class="back" width="{WIDTH}" height="{height}"/>', *body, '</svg>', ''])


def time_axis(picture, top, base):
    out = [f'<path class="axis" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>']
    for tick in picture.ticks:
        x = tenths(across(picture, tick * picture.unit))
        out.append(f'<path class="axis" d="M{x} {top}V{base + 4}"/>')
        out.append(f'<text class="middle" x="{x}" y="{base + 18}">{picture.label(tick)}</text>')
    return out


def legend(y, extra=()):
    items = [('<circle class="yes" cx="{x}" cy="{y}" r="3.2"/>', 'admitted'),
             ('<circle class="no" cx="{x}" cy="{y}" r="3.2"/>', 'refused'), *extra]
    out, x = [], WIDTH - RIGHT - sum(26 + 7 * len(text) for _, text in items)
    for mark, text in items:
        out.append(mark.format(x=x + 6, y=y - 4))
        out.append(f'<text x="{x + 16}" y="{y}">{text}</text>')
        x += 26 + 7 * len(text)
    return out


def draw(picture, calls):
    """One policy: the calls above, below them the starts or leases, then what remains."""
    queue = picture.policy.startswith('queue')
    leases = picture.policy.startswith('concurrency')
    extra = []
    body = [f'<text class="policy" x="16" y="22">{escape(picture.policy)}</text>']
    base = 112
    rows = [f'<text class="end" x="{LEFT - 6}" y="{base - 8}">calls</text>',
            *marks(picture, calls, base, 9)]
    if queue:
        base += 66
        rows += [f'<text class="end" x="{LEFT - 6}" y="{base - 8}">start</text>',
                 *starts(picture, calls, base)]
        extra = [('<path class="yes" transform="translate({x} {y})" d="M-2 -3v6l5 -3z"/>',
                  'starts')]
    if leases:
        base += 72
        rows += [f'<text class="end" x="{LEFT - 6}" y="{base - 8}">leases</text>',
                 *bars(picture, calls, base)]
        extra = [('<path class="yes" transform="translate({x} {y})" d="M-5 -4h9v8h-9z"/>',
                  'released'),
                 ('<path class="level" transform="translate({x} {y})" d="M-5 -4h9v8h-9z"/>',
                  'ended by itself')]
    else:
        base += 78
        rows += [f'<text class="end" x="{LEFT - 6}" y="{base - 34}">left</text>',
                 *level(picture, calls, base, 78)]
    body += time_axis(picture, 34, base)
    for end in window_ends(picture, calls):
        if end <= LENGTH * picture.unit:
            body.append(f'<path class="edge" d="M{tenths(across(picture, end))} 34V{base}"/>')
    return svg(f'{picture.policy}: decisions over time', described(picture, calls), base + 28,
               body + legend(22, extra) + rows)


def overview(decided):
    """The same calls under several policies, one row each."""
    body, words, rows = [], [], []
    top = base = 40
    for name in OVERVIEW:
        picture, calls = PICTURES[name], decided[name]
        rows.append(f'<text class="policy" x="{LEFT + 180}" y="{base + 22}">'
                    f'{escape(picture.policy)}</text>')
        base += 58
        total = sum(call.admitted for call in calls if call.what == 'call')
        rows.append(f'<text class="end" x="{LEFT - 10}" y="{base - 16}">{total}</text>')
        rows.append(f'<path class="axis" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>')
        rows += marks(picture, calls, base, 6)
        words.append(f'{picture.policy}: {described(picture, calls)}')
    body.append('<text x="16" y="22">The same calls, and how many of them each admits</text>')
    body += time_axis(PICTURES[OVERVIEW[0]], top, base)
    return svg('The same calls under several policies', ' '.join(words), base + 28,
               body + legend(22) + rows)


def draw_all(program):
    """All pictures: {file name: text}."""
    decided = {name: decide(program, picture) for name, picture in PICTURES.items()}
    drawn = {f'{name}.svg': draw(PICTURES[name], calls) for name, calls in decided.items()}
    drawn['overview.svg'] = overview(decided)
    return drawn


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in draw_all(sys.argv[1]).items():
        (folder / name).write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
