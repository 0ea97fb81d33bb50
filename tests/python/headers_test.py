#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim.headers, and the parser that judges it (sf.py).

Goal: every field that brim sends parses as the RFC and the draft say, and says what the decision
said. Method: the parser is tested by itself on the RFC's examples and on what the RFC fails; the
fields of thousands of decisions of random policies, costs and keys go through it, and are compared
with the decision by other arithmetic than that of the code.
"""
import fractions
import math
import os
import random
import time
import unittest

import brim
import sf
from brim import headers

SEGMENT = f'test-headers-{os.getpid()}'


class Parser(unittest.TestCase):
    """sf.py, by RFC 9651."""

    def test_lists(self):
        for text, value in [
                ('sugar, tea, rum', [('sugar', {}), ('tea', {}), ('rum', {})]),
                ('', []), ('  ', []), ('1', [(1, {})]),
                ('1 \t,\t "a"', [(1, {}), ('a', {})]),
                ('("foo" "bar"), ("baz"), ("bat" "one"), ()',
                 [([('foo', {}), ('bar', {})], {}), ([('baz', {})], {}),
                  ([('bat', {}), ('one', {})], {}), ([], {})]),
                ('("foo"; a=1;b=2);lvl=5, ("bar" "baz");lvl=1',
                 [([('foo', {'a': 1, 'b': 2})], {'lvl': 5}),
                  ([('bar', {}), ('baz', {})], {'lvl': 1})]),
                ('abc;a=1;b=2; cde_456, (ghi;jk=4 l);q="9";r=w',
                 [('abc', {'a': 1, 'b': 2, 'cde_456': True}),
                  ([('ghi', {'jk': 4}), ('l', {})], {'q': '9', 'r': 'w'})])]:
            self.assertEqual(sf.parse_list(text), value, text)

    def test_dictionaries(self):
        self.assertEqual(sf.parse_dictionary('en="Applepie", da=:w4ZibGV0w6ZydGU=:'),
                         {'en': ('Applepie', {}), 'da': ('Æbletærte'.encode(), {})})
        self.assertEqual(sf.parse_dictionary('a=?0, b, c; foo=bar'),
                         {'a': (False, {}), 'b': (True, {}), 'c': (True, {'foo': 'bar'})})
        self.assertEqual(sf.parse_dictionary('a=1, b=2;x=1;y=2, a=(1 2)'),
                         {'b': (2, {'x': 1, 'y': 2}), 'a': ([(1, {}), (2, {})], {})})

    def test_items(self):
        for text, value in [('5', 5), ('-42', -42), ('00', 0), ('4.5', fractions.Fraction(9, 2)),
                            ('"hello world"', 'hello world'), (r'"a\"b\\c"', 'a"b\\c'),
                            ('foo123/456', 'foo123/456'), ('*a:b', '*a:b'),
                            (':cHJldGVuZCB0aGlzIGlzIGJpbmFyeSBjb250ZW50Lg==:',
                             b'pretend this is binary content.'), (':cHJldA:', b'pret'),
                            ('?1', True), ('?0', False), ('@1659578233', 1659578233),
                            ('%"This is intended for display to %c3%bcsers."',
                             'This is intended for display to üsers.'),
                            ('999999999999999', 10**15 - 1), ('-999999999999.999',
                                                              fractions.Fraction(1 - 10**15, 1000)),
                            (' 1 ', 1)]:
            self.assertEqual(sf.parse_item(text), (value, {}), text)
        self.assertEqual(sf.parse_item('5; foo=bar'), (5, {'foo': 'bar'}))
        self.assertEqual(sf.parse_item('1;a=1;a=2'), (1, {'a': 2}))
        for text, kind in [('"a"', str), ('a', sf.Token), ('1', int), ('@1', sf.Date),
                           ('%"a"', sf.DisplayString), (':YQ==:', bytes), ('?1', bool)]:
            self.assertIs(type(sf.parse_item(text)[0]), kind)

    def test_malformed(self):
        for text in ['', '"', '"a', '"\x7f"', '"\t"', '"é"', r'"\a"', '"a\\', '1.', '1.2345', '-',
                     '--1', '1000000000000000', '1000000000000.0', '1;A=1', '1;=1', '1;', '1;a=',
                     '?2', '?', ':a b:', ':YQ==', '@1.5', '%"%C3"', '%"%c3"', '%"a', '%a', '1 2',
                     '\t1', '(1', "'a'", '{a}', '1;a b']:
            with self.assertRaises(sf.Malformed, msg=repr(text)):
                sf.parse_item(text)
        for text in ['1,', '1, ', '1 2', ',1', '1,,2', '(1', '(1,2)', '(1"a")', '("a"', '(1)b',
                     '"a";q=1 "b"']:
            with self.assertRaises(sf.Malformed, msg=repr(text)):
                sf.parse_list(text)
        for text in ['a=1,', 'A=1', 'a=', '=1', 'a b', '1=1', 'a, ,b']:
            with self.assertRaises(sf.Malformed, msg=repr(text)):
                sf.parse_dictionary(text)


class Serialisers(unittest.TestCase):
    def test_what_they_say_parses(self):
        for text in ['', 'per_ip', 'a b', '"', '\\', r'\"', ''.join(map(chr, range(32, 127)))]:
            self.assertEqual(sf.parse_item(headers.string(text)), (text, {}))
            self.assertIs(type(sf.parse_item(headers.string(text))[0]), str)
        for value in [0, 1, -1, 2**32, 10**15 - 1, 1 - 10**15]:
            self.assertEqual(sf.parse_item(headers.integer(value)), (value, {}))
        self.assertEqual(sf.parse_item(headers.item('a', {'q': 5, 'qu': 'x y', '*a-.1': 0})),
                         ('a', {'q': 5, 'qu': 'x y', '*a-.1': 0}))

    def test_what_they_can_not_say_they_refuse(self):
        for text in ['\n', '\r\nSet-Cookie: a=b', '\t', '\x7f', 'é', '\0', '\ud800', '\u2028']:
            with self.assertRaises(ValueError):
                headers.string(text)
        for value in [10**15, -10**15]:
            with self.assertRaises(ValueError):
                headers.integer(value)
        for key in ['', 'Q', '1', '-a', 'a b', 'a=', 'é', 'a\n']:
            with self.assertRaises(ValueError):
                headers.item('a', {key: 1})

    def test_waits_are_rounded_up(self):
        second = 10**9
        for wait, seconds in [(0, 1), (1, 1), (second, 1), (second + 1, 2), (90 * second, 90)]:
            self.assertEqual(headers.retry_after(wait), seconds)
        self.assertEqual(headers.retry_after(second, 2.5), 3)
        self.assertEqual(headers.retry_after(7 * second, 2.5), 7)
        self.assertIsNone(headers.retry_after(brim.NEVER_NS))
        self.assertIsNone(headers.retry_after(brim.NEVER_NS, 5))


# The whole of what a policy says of itself.
POLICY_FIELDS = {
    '100/m burst 20': '"p";q=100;w=60',
    '10/s; 1000/h': '"p/1";q=10;w=1, "p/2";q=1000;w=3600',
    '5/100ms': '"p";q=5',  # no whole number of seconds says it
    '5/1500ms': '"p";q=5',
    'fixed-window 7/2s': '"p";q=7;w=2',
    'calendar-window 9/day': '"p";q=9;w=86400',
    'calendar-window 9/month': '"p";q=9',
    'sliding-log 3/10s': '"p";q=3;w=10',
    'concurrency 4': '"p";q=4;qu="concurrent-requests"',
    'deny': '"p";q=0',
    'unlimited': '',
}

RANDOM_RATES = ['{n}/m burst {b}', '{n}/h', 'token-bucket {n}/s burst {b} debt {n}',
                'queue {n}/s burst {b}', 'fixed-window {n}/h', 'fixed-window {n}/d first-hit',
                'sliding-log {s}/m', 'sliding-counter {n}/h', '{n}/200ms',
                'calendar-window {n}/month', '{n}/h burst {b} forward']


class Answers(unittest.TestCase):
    """Fields of real decisions."""

    @classmethod
    def setUpClass(cls):
        cls.limiter = brim.Limiter.open(SEGMENT, capacity=1 << 14, cells_per_key=32,
                                        max_policies=400)
        cls.addClassCleanup(brim.Limiter.unlink, SEGMENT)

    def test_policies(self):
        for i, (text, field) in enumerate(POLICY_FIELDS.items()):
            _, described = self.one(f'p{i}', text)
            self.assertEqual(headers.policy_field([described]), field.replace('"p', f'"p{i}'))

    def one(self, name, text):
        policy = self.limiter.define(name, text)
        return policy, headers.Described(policy)

    def test_one_policy(self):
        policy, described = self.one('plain', 'fixed-window 2/d first-hit')
        fields = dict(headers.fields(policy.try_acquire('a'), [described]))
        self.assertEqual(fields['RateLimit-Policy'], '"plain";q=2;w=86400')
        self.assertEqual(fields['RateLimit'], '"plain";r=1;t=86400')
        self.assertNotIn('Retry-After', fields)
        policy.try_acquire('a')
        refused = policy.try_acquire('a')
        fields = dict(headers.fields(refused, [described], least_retry_after=90000))
        self.assertRegex(fields['RateLimit'], '^"plain";r=0;t=86[34]..$')
        self.assertEqual(fields['Retry-After'], '90000')

    def test_no_wait_will_help(self):
        policy, described = self.one('small', '5/h')
        fields = dict(headers.fields(policy.try_acquire('a', 6), [described], legacy='delta',
                                     least_retry_after=10))
        self.assertEqual(fields, {'RateLimit-Policy': '"small";q=5;w=3600',
                                  'RateLimit': '"small";r=5', 'X-RateLimit-Limit': '5',
                                  'X-RateLimit-Remaining': '5'})

    def test_silent_where_the_limit_said_nothing(self):
        for name, text in [('off', 'unlimited'), ('dark', '1/d shadow')]:
            policy, described = self.one(name, text)
            policy.try_acquire('a')
            self.assertTrue(policy.try_acquire('a'))
            self.assertEqual(headers.fields(policy.try_acquire('a'), [described]), [])
        policy, described = self.one('paused', '1/d')
        self.limiter.pause()
        try:
            decision = policy.try_acquire('a')
            self.assertEqual(decision.reason, brim.Reason.PAUSED)
            self.assertEqual(headers.fields(decision, [described]), [])
        finally:
            self.limiter.resume()
        leases, described = self.one('leases', 'concurrency 2')
        decision = leases.try_acquire('a')  # no such call: unavailable
        self.assertEqual(decision.verdict, brim.Verdict.UNAVAILABLE)
        self.assertEqual(headers.fields(decision, [described]), [])

    def test_several_rates(self):
        policy, described = self.one('both', '3/h; fixed-window 100/d')
        fields = dict(headers.fields(policy.try_acquire('a'), [described], legacy='delta'))
        self.assertEqual(fields['RateLimit-Policy'],
                         '"both/1";q=3;w=3600, "both/2";q=100;w=86400')
        value, parameters = sf.parse_list(fields['RateLimit'])[0]
        self.assertEqual((value, parameters['r']), ('both/1', 2))
        self.assertNotIn('t', parameters)  # not the day, until all is settled
        self.assertEqual(fields['X-RateLimit-Limit'], '3')
        # Who waits for all never comes too early.
        self.assertTrue(3600 < int(fields['X-RateLimit-Reset']) <= 86400, fields)
        policy, described = self.one('alike', 'fixed-window 3/h; fixed-window 100/h')
        fields = dict(headers.fields(policy.try_acquire('a'), [described]))
        (_, parameters), = sf.parse_list(fields['RateLimit'])
        self.assertTrue(0 < parameters['t'] <= 3600)  # all are settled by then
        policy, described = self.one('months', 'calendar-window 3/month; 9/h')
        fields = dict(headers.fields(policy.try_acquire('a'), [described]))
        self.assertRegex(fields['RateLimit'], '^"months/1";r=2$')  # they differ in length

    def test_a_slower_clock_is_not_passed_over(self):
        """A factor, a warm-up and an override: r comes back later than the text says."""
        other = self.limiter.define('other', 'fixed-window 100000/d')
        second = headers.Described(other)
        self.limiter.define('slower', '10/d')
        for i, text in enumerate(['10/h', '10/h warm-up 10% over 1h', '10/h']):
            policy, described = self.one(f'late{i}', text)
            if i == 0:
                self.limiter.set_factor('late0', 0.1)
            elif i == 2:
                self.limiter.set_override('late2', 'a', 'slower')
            for _ in range(10):
                decision = self.limiter.try_acquire_all([(policy, 'a'), (other, 'b')])
            alone = policy.peek('a')
            self.assertGreater(alone.reset_after, 3601)
            for name, parameters in sf.parse_list(
                    dict(headers.fields(decision, [described, second]))['RateLimit']):
                self.assertEqual((name, parameters['r']), (f'late{i}', 0))
                self.assertGreaterEqual(parameters.get('t', brim.NEVER), alone.reset_after)

    def test_fields_that_are_none(self):
        for name, value in [('X-A', 'b'), ('a', ''), ('A', 'x\ty é')]:
            self.assertTrue(headers.sendable(name, value))
        for name, value in [('', 'a'), ('a b', ''), ('a:', ''), ('é', ''), ('a\n', ''), (b'a', ''),
                            ('a', 'b\n'), ('a', '\rb'), ('a', 'b\0'), ('a', '€'), ('a', '\x7f'),
                            ('a', b'b'), ('a', 5), ('a', None)]:
            self.assertFalse(headers.sendable(name, value), (name, value))

    def test_several_policies(self):
        one, first = self.one('first', '2/d')
        two, second = self.one('second', '50/m; 1000/h')
        both = [first, second]
        for left in (1, 0):
            decision = self.limiter.try_acquire_all([(one, 'a'), (two, 'a')])
            fields = dict(headers.fields(decision, both))
            self.assertEqual(fields['RateLimit-Policy'], '"first";q=2;w=86400, '
                             '"second/1";q=50;w=60, "second/2";q=1000;w=3600')
            self.assertTrue(fields['RateLimit'].startswith(f'"first";r={left};t='), fields)
        decision = self.limiter.try_acquire_all([(one, 'a'), (two, 'a')])
        self.assertFalse(decision)
        self.assertEqual(headers.binding(decision, both), (first, 0))
        # Of a policy of several rates such a decision does not tell the rate.
        decision = self.limiter.try_acquire_all([(one, 'b'), (two, 'c', 51)])
        self.assertEqual(headers.binding(decision, both), (second, None))
        self.assertEqual(dict(headers.fields(decision, both, legacy='delta'))['X-RateLimit-Limit'],
                         '50')
        # The same policy for two keys is said once.
        self.assertEqual(headers.policy_field([first, first]), '"first";q=2;w=86400')

    def test_an_override_to_a_policy_of_more_rates(self):
        policy, described = self.one('usual', '5/h')
        self.limiter.define('vip', '70/h; 60/h burst 30; 900/d')
        self.limiter.set_override('usual', 'a', 'vip')
        decision = policy.try_acquire('a')
        self.assertEqual(decision.part, 1)
        fields = dict(headers.fields(decision, [described], legacy='delta'))
        self.assertTrue(fields['RateLimit'].startswith('"usual";r=29;t='), fields)

    def test_legacy(self):
        policy, described = self.one('old', 'fixed-window 3/h first-hit')
        decision = policy.try_acquire('a')
        plain = dict(headers.fields(decision, [described]))
        self.assertFalse([name for name in plain if name.startswith('X-')])
        delta = dict(headers.fields(decision, [described], legacy='delta'))
        self.assertEqual((delta['X-RateLimit-Limit'], delta['X-RateLimit-Remaining'],
                          delta['X-RateLimit-Reset']), ('3', '2', '3600'))
        before = time.time()
        epoch = dict(headers.fields(decision, [described], legacy='epoch'))
        after = time.time()
        # Never before the window ends, and not two seconds later.
        reset = int(epoch['X-RateLimit-Reset'])
        self.assertTrue(before + 3600 <= reset <= after + 3602, (before, reset))

    def test_fields_parse_and_agree_with_the_decision(self):
        draw = random.Random(71)
        described, policies = [], []
        for i in range(120):
            rates = '; '.join(dict.fromkeys(
                draw.choice(RANDOM_RATES).format(n=draw.choice([1, 2, 7, 100, 4000000]),
                                                 b=draw.choice([1, 3, 50]), s=draw.randint(1, 9))
                for _ in range(draw.choice([1, 1, 2]))))
            try:
                policy = self.limiter.define(f'r.{i}', rates)
            except brim.InvalidArgument:  # two rates alike
                continue
            policies.append(policy)
            described.append(headers.Described(policy))
        self.assertGreater(len(policies), 80)
        refused = 0
        for i in range(4000):
            which = draw.sample(range(len(policies)), draw.choice([1, 1, 2, 3]))
            cost = draw.choice([0, 1, 1, 2, 5, 200])
            decision = (policies[which[0]].try_acquire(b'k%d' % (i % 3), cost) if len(which) == 1
                        else self.limiter.try_acquire_all(
                            [(policies[w], b'k%d' % (i % 3), cost) for w in which]))
            refused += not decision.admitted
            self.agree(decision, [described[w] for w in which],
                       headers.fields(decision, [described[w] for w in which], legacy='delta',
                                      least_retry_after=draw.choice([0.0, 1.5])))
        self.assertTrue(500 < refused < 3500, refused)

    def agree(self, decision, asked, given):
        fields = dict(given)
        self.assertEqual(len(fields), len(given), given)  # each once
        quotas = {}
        for name, parameters in sf.parse_list(fields['RateLimit-Policy']):
            self.assertIs(type(name), str)
            self.assertIs(type(parameters['q']), int)
            self.assertLessEqual(set(parameters), {'q', 'w'})
            self.assertGreater(parameters.get('w', 1), 0)
            quotas[name] = parameters['q']
        self.assertEqual(set(quotas), {name for one in asked for name in one.names})
        (name, parameters), = sf.parse_list(fields['RateLimit'])
        self.assertIs(type(name), str)
        self.assertIn(name, set(quotas) | {one.name for one in asked})
        self.assertEqual(parameters['r'], decision.remaining)
        self.assertEqual(fields['X-RateLimit-Remaining'], str(decision.remaining))
        self.assertIn(int(fields['X-RateLimit-Limit']), quotas.values())
        if decision.admitted:
            self.assertNotIn('Retry-After', fields)
            self.assertEqual(fields['X-RateLimit-Reset'], str(math.ceil(decision.reset_after)))
            self.assertIn(parameters.get('t'), (None, math.ceil(decision.reset_after)))
            if len(asked) == 1 and len(asked[0].names) == 1:
                self.assertEqual(parameters['t'], math.ceil(decision.reset_after))
        elif decision.retry_after == brim.NEVER:
            self.assertEqual([n for n in fields if 't' in parameters or n == 'Retry-After'], [])
        else:
            self.assertGreaterEqual(parameters['t'], max(decision.retry_after, 1))
            self.assertLess(parameters['t'], max(decision.retry_after, 1) + 1)
            self.assertGreaterEqual(int(fields['Retry-After']), parameters['t'])
            self.assertEqual(fields['X-RateLimit-Reset'], str(parameters['t']))


if __name__ == '__main__':
    unittest.main()
