#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim.rules: which requests count, against what, and what is answered.

Goal: each option does what it says, all rules pass or none is charged, and trouble with the
segment neither blocks nor kills a worker. Method: the same requests through decide() and
decide_now() against real segments; counts are read back from the segment. Rates are per day, so
that no permit comes back while a test runs.
"""
import asyncio
import json
import logging
import multiprocessing
import os
import re
import threading
import unittest

import brim
import drive
import segment
from brim import _attachment, keys
from brim.rules import Paths, RateLimitExceeded, Rule, Rules


def request(path='/', method='GET', client='192.0.2.9', **more):
    return keys.AsgiRequest(drive.scope(path, method=method, client=client and (client, 1), **more))


def both(rules, *args, **kwargs):
    """decide() and decide_now() in turn: two decisions."""
    one = request(*args, **kwargs)
    return [asyncio.run(rules.decide(one)), rules.decide_now(one)]


def passed(rules, *args, times=1, **kwargs):
    """How many of so many requests pass; None counts as one that does."""
    one = request(*args, **kwargs)
    outcomes = [rules.decide_now(one) for _ in range(times)]
    return sum(outcome is None or outcome.admitted for outcome in outcomes)


class Case(segment.SegmentTest):
    def rules(self, *rules, **options):
        return Rules(self.name, rules, **options)

    def renew(self):
        """Another segment: its policies may have other texts."""
        self.name = segment.unique_name()
        self.addCleanup(self.remove, self.name)

    def taken(self, policy, key='192.0.2.9', of=100):
        limiter = brim.Limiter.open(self.name)
        if policy not in limiter.policy_names():
            return 0
        return of - limiter.policy(policy).peek(key).remaining


class Matching(Case):
    def test_paths(self):
        paths = Paths(['/login', '/api/*', '/a'])
        for path, there in [('/login', True), ('/login/', False), ('/api/', True), ('/api', False),
                            ('/api/x/y', True), ('/ap', False), ('/a', True), ('/A', False),
                            ('', False), ('//login', False), ('/login\0', False)]:
            self.assertEqual(path in paths, there, path)
        self.assertIn('/any', Paths('*'))
        self.assertNotIn('/', Paths([]))
        for bad in ['login', '/a*b', '/*/x', '', '/a/**']:
            with self.assertRaises(ValueError):
                Paths(bad)

    def test_all_conditions_must_hold(self):
        rules = self.rules(Rule('r', '100/d', path='/api/*', regex=r'\d$', methods=['post'],
                                when=lambda r: r.header('x') == 'y'))
        yes = {'path': '/api/1', 'method': 'POST', 'headers': [('X', 'y')]}
        self.assertEqual([o.admitted for o in both(rules, **yes)], [True, True])
        for no in [{'path': '/app/1'}, {'path': '/api/a'}, {'method': 'GET'}, {'headers': []}]:
            self.assertEqual(both(rules, **{**yes, **no}), [None, None])
        self.assertEqual(self.taken('r'), 2)

    def test_exempt(self):
        rules = self.rules(Rule('r', '100/d'), exempt=['/health', '/static/*'],
                           exempt_methods=['options'])
        for free in [{'path': '/health'}, {'path': '/static/a.css'}, {'method': 'OPTIONS'}]:
            self.assertEqual(both(rules, **free), [None, None])
        self.assertEqual(self.taken('r'), 0)
        self.assertIsNotNone(rules.decide_now(request('/health/x')))
        self.assertIsNone(self.rules().decide_now(request()))

    def test_wrong_options_are_refused_when_made(self):
        for make in [lambda: Rule('r', '100/fortnight'), lambda: Rule('r', 'concurrency 3'),
                     lambda: Rule('r', '1/d', path='x'), lambda: Rule('r', '1/d', regex='('),
                     lambda: Rule('r', '1/d', path='//x'),
                     lambda: self.rules(legacy='on'),
                     lambda: self.rules(Rule('r', '1/d'), Rule('r', '2/d')),
                     *(lambda name=name: Rule(name) for name in ('', 'per ip', 'a/1', 'é',
                                                                 'x' * 48, 'a\n')),
                     lambda: Rule(lambda r: 'a', {'per ip': '1/d'}),
                     *(lambda name=name: Rules(name, []) for name in ('', 'my/api', '.a', 'a b',
                                                                      '/x/', '/x/.a', 'a\n')),
                     *(lambda least=least: self.rules(least_retry_after=least)
                       for least in (-1, float('inf'), float('nan'))),
                     *(lambda given=given: self.rules(extra_fields=given)
                       for given in ({'X': 'a\r\nb'}, {'X Y': ''}, {'X': '€'}, {'X': 5}))]:
            with self.assertRaises((ValueError, re.error)):
                make()
        for make in [lambda: Rule('r', '1/d', methods='GET'), lambda: Rule(lambda r: 'r', '1/d'),
                     lambda: self.rules(exempt_methods='GET')]:
            with self.assertRaises(TypeError):
                make()
        for name in ('a', '/a', '/dev/shm/a', 'x' * 200):  # a name, or a path
            Rules(name, [])

    def test_a_policy_means_one_thing_in_a_process(self):
        self.rules(Rule('r', '60/m'))
        self.rules(Rule('r', '60/1m'), Rule('s', '1/d'))
        with self.assertRaisesRegex(ValueError, 'given twice'):
            self.rules(Rule('new', '1/d'), Rule('r', '1000/s'))
        self.rules(Rule('new', '2/d'))  # nothing was kept of those
        Rules(segment.unique_name(), [Rule('r', '1000/s')])

    def test_methods(self):
        rules = self.rules(Rule('r', '100/d', methods=['get']))
        for method, limited in [('GET', True), ('HEAD', True), ('get', True), ('POST', False)]:
            self.assertEqual(rules.decide_now(request(method=method)) is not None, limited)
        rules = self.rules(Rule('r', '100/d', methods=['HEAD']), exempt_methods=['POST'])
        self.assertIsNone(rules.decide_now(request()))


class Deciding(Case):
    def test_functions_of_both_kinds(self):
        async def policy(_):
            return 'pro'

        async def key(_):
            await asyncio.sleep(0)
            return b'k'

        async def cost(_):
            return 3

        async def when(_):
            return True

        rules = self.rules(Rule(policy, {'pro': '100/d'}, key=key, cost=cost, when=when))
        self.assertTrue(asyncio.run(rules.decide(request())).admitted)
        self.assertEqual(self.taken('pro', 'k'), 3)
        with self.assertRaises(TypeError):
            rules.decide_now(request())
        rules = self.rules(Rule(lambda _: 'pro', {'pro': '100/d'}, key=lambda _: 'k',
                                cost=lambda _: 5, when=lambda _: True))
        both(rules)
        self.assertEqual(self.taken('pro', 'k'), 13)

    def test_tiers(self):
        def tier(one):
            return one.header('tier') or keys.UNLIMITED

        rules = self.rules(Rule('all', '100/d', key=keys.everyone),
                           Rule(tier, {'free': '1/d', 'pro': '3/d'}))
        self.assertEqual(passed(rules, headers=[('tier', 'free')], times=9), 1)
        self.assertEqual(passed(rules, headers=[('tier', 'pro')], times=9), 3)
        self.assertEqual(both(rules), [None, None])
        self.assertEqual(self.taken('all', '*'), 4)
        for wrong in ('no such', 'none'):  # the rule alone is missing
            with self.subTest(wrong), self.assertLogs('brim', logging.WARNING):
                rules = self.rules(*rules.rules)
                outcome = rules.decide_now(request(headers=[('tier', wrong)]))
                self.assertEqual((outcome.admitted, outcome.policies), (True, ('all',)))
        self.assertEqual(self.taken('all', '*'), 6)
        with self.assertLogs('brim', logging.WARNING):
            self.assertIsNone(self.rules(rules.rules[1]).decide_now(
                request(headers=[('tier', 'none')])))
        rules = self.rules(*rules.rules, fail_closed=True)
        with self.assertLogs('brim', logging.WARNING):
            outcome = rules.decide_now(request(headers=[('tier', 'none')]))
        self.assertEqual((outcome.status, outcome.decision), (503, None))
        self.assertEqual(self.taken('all', '*'), 6)
        self.assertTrue(rules.decide_now(request(headers=[('tier', 'pro')], client='k')).admitted)

    def test_unlimited_exempts_the_request_from_all_rules(self):
        async def unlimited(_):
            return keys.UNLIMITED

        for key in (unlimited, lambda _: keys.UNLIMITED):
            rules = self.rules(Rule('a', '100/d'), Rule('b', '100/d', key=key))
            self.assertIsNone(asyncio.run(rules.decide(request())))
        self.assertIsNone(rules.decide_now(request()))
        self.assertEqual(self.taken('a'), 0)

    def test_all_or_none(self):
        rules = self.rules(Rule('mine', '5/d'), Rule('all', '100/d', key=keys.everyone))
        outcomes = [rules.decide_now(request()) for _ in range(9)]
        self.assertEqual([o.admitted for o in outcomes], [True] * 5 + [False] * 4)
        self.assertEqual((outcomes[-1].violated, outcomes[-1].policies), (['mine'],
                                                                         ('mine', 'all')))
        self.assertEqual(self.taken('all', '*'), 5)  # the refused ones took nothing of it

    def test_more_rules_than_one_instant_takes(self):
        many = [Rule(f'p{i}', '100/d', key=keys.everyone) for i in range(19)]
        many[17] = Rule('p17', '3/d', key=keys.everyone)
        rules = self.rules(*many)
        outcomes = [rules.decide_now(request()) for _ in range(5)]
        self.assertEqual([o.admitted for o in outcomes], [True] * 3 + [False] * 2)
        self.assertEqual([self.taken(f'p{i}', '*') for i in (0, 7, 8, 16, 18)], [3] * 5)
        self.assertEqual(outcomes[-1].violated, ['p17'])
        fields = dict(outcomes[0].fields)
        self.assertEqual(fields['RateLimit-Policy'].count(';q='), 19)
        self.assertTrue(fields['RateLimit'].startswith('"p17";r=2'), fields)

    def test_a_refusal_gives_back_what_was_taken_and_no_more(self):
        first = [Rule('taken', '9/d'), Rule('free', '9/d'), Rule('dark', '1/d shadow'),
                 Rule('look', '9/d', cost=0), *(Rule(f'f{i}', '100/d') for i in range(4))]
        last = Rule('last', '1/d', path='/last')
        rules = Rules(self.name, [*first, last], key=lambda _: 'k')
        limiter = brim.Limiter.open(self.name, policies={
            name: text for rule in rules.rules for name, text in rule.texts.items()})
        for name in ('taken', 'free', 'look'):
            limiter.policy(name).try_acquire('k', 4)
        limiter.policy('dark').try_acquire('k')
        limiter.set_override('free', 'k', 'unlimited')
        self.assertTrue(rules.decide_now(request('/last')).admitted)
        for _ in range(5):
            self.assertFalse(rules.decide_now(request('/last')).admitted)
        limiter.clear_override('free', 'k')
        left = {name: limiter.policy(name).peek('k').remaining
                for name in ('taken', 'free', 'look', 'dark', 'f0', 'f3')}
        self.assertEqual(left, {'taken': 4, 'free': 5, 'look': 5, 'dark': 0, 'f0': 99, 'f3': 99})

    def test_what_was_not_decided_is_not_given_back(self):
        self.open(taken='9/d on-unavailable allow')
        policy = brim.Limiter.attach_read_only(self.name).policy('taken')
        decision = policy.try_acquire('k')
        self.assertEqual((decision.admitted, decision.reason), (True, brim.Reason.READ_ONLY))
        self.assertEqual(_attachment._charged([(policy, 'k', 1)], decision), [])

    def test_the_longest_delay_of_all(self):
        many = [Rule(f'p{i}', '100/d', key=keys.everyone) for i in range(9)]
        many[3] = Rule('p3', 'queue 1/h burst 200', key=keys.everyone)
        many[8] = Rule('p8', '50/d', key=keys.everyone)
        outcomes = [self.rules(*many).decide_now(request()) for _ in range(2)]
        self.assertTrue(outcomes[1].admitted)
        self.assertGreater(outcomes[1].delay, 3000)
        self.assertTrue(dict(outcomes[1].fields)['RateLimit'].startswith('"p8";r=48;'))

    def test_costs(self):
        rules = self.rules(Rule('r', '10/d', cost=4))
        self.assertEqual(passed(rules, times=5), 2)
        look = self.rules(Rule('r', '10/d', cost=0))
        self.assertEqual(passed(look, times=5), 5)
        outcome = look.decide_now(request())
        self.assertEqual(outcome.decision.remaining, 2)
        self.assertEqual(self.taken('r', of=10), 8)
        for most in (2**31 + 1, 10**30):  # a Content-Length, say: the client's word
            outcome = self.rules(Rule('r', '10/d', cost=lambda _, c=most: c)).decide_now(request())
            self.assertEqual((outcome.status, outcome.decision.reason),
                             (413, brim.Reason.COST_ABOVE_BURST))
        self.assertEqual(Rule('r', '10/d', cost=10**30).cost, 2**31)
        for bad, error in [(-1, ValueError), (1.5, TypeError), ('1', TypeError),
                           (None, TypeError)]:
            with self.assertRaisesRegex(error, 'a cost is'):
                self.rules(Rule('r', '10/d', cost=lambda _, c=bad: c)).decide_now(request())
            with self.assertRaisesRegex(error, 'a cost is'):
                Rule('r', '10/d', cost=bad)

    def test_errors_of_functions_are_the_apps(self):
        def fails(_):
            raise ZeroDivisionError

        for options in [{'key': fails}, {'cost': fails}, {'when': fails}]:
            rules = self.rules(Rule('r', '10/d', **options))
            with self.assertRaises(ZeroDivisionError):
                rules.decide_now(request())
            with self.assertRaises(ZeroDivisionError):
                asyncio.run(rules.decide(request()))
        for nothing in (None, 7, ['a']):
            with self.assertRaises(TypeError):
                self.rules(Rule('r', '10/d', key=lambda _, n=nothing: n)).decide_now(request())
        self.assertEqual(self.taken('r', of=10), 0)

    def test_any_key(self):
        hostile = ['', 'x' * 10_000, '\0', 'a\0b', 'é', '\ud800', '\udfff\ud800', b'', b'\0\xff',
                   b'\xff' * 10_000, '\r\nX: y', '\u202e']
        rules = self.rules(Rule('r', '2/d', key=lambda r: hostile[int(r.path[1:])]))
        for i in range(len(hostile)):
            passes = passed(rules, f'/{i}', times=3)
            self.assertIn(passes, (2, 0) if hostile[i] in ('', b'') else (2,), hostile[i][:9])

    def test_a_policy_that_is_there_needs_no_text(self):
        brim.Limiter.open(self.name, policies={'stored': '2/d'})
        self.assertEqual(passed(self.rules(Rule('stored')), times=5), 2)


class Answers(Case):
    def outcome(self, text, cost=1, times=2, **options):
        rules = self.rules(Rule('r', text, cost=cost), **options)
        return [rules.decide_now(request()) for _ in range(times)][-1]

    def test_refused(self):
        outcome = self.outcome('fixed-window 1/d first-hit')
        self.assertEqual((outcome.status, outcome.violated), (429, ['r']))
        self.assertEqual(json.loads(outcome.body()), {
            'type': 'https://iana.org/assignments/http-problem-types#quota-exceeded',
            'title': 'Too many requests', 'status': 429, 'violated-policies': ['r']})
        fields = dict(outcome.fields)
        self.assertGreaterEqual(int(fields['Retry-After']), outcome.decision.retry_after)
        self.assertEqual(str(RateLimitExceeded(outcome)), 'rate limit exceeded: r')
        self.renew()
        self.assertEqual(self.outcome('1/d', status=420).status, 420)

    def test_no_wait_will_help(self):
        outcome = self.outcome('5/d', 6)
        self.assertEqual(outcome.status, 413)
        self.assertNotIn('Retry-After', dict(outcome.fields))
        self.assertIn('costs more', outcome.problem()['title'])
        self.assertEqual(self.outcome('5/d', 6, never_status=400).status, 400)

    def test_denied_and_banned(self):
        outcome = self.outcome('deny')
        self.assertEqual(outcome.status, 403)
        self.assertEqual(dict(outcome.fields), {'RateLimit-Policy': '"r";q=0',
                                                'RateLimit': '"r";r=0'})
        self.renew()
        outcome = self.outcome('1/d ban 2 in 1h for 2h', times=5)
        self.assertEqual(outcome.status, 429)
        self.assertTrue(outcome.problem()['type'].endswith('#abnormal-usage-detected'))
        self.assertIn(int(dict(outcome.fields)['Retry-After']), range(7100, 7202))
        brim.Limiter.open(self.name).ban('r', '192.0.2.7', brim.NEVER)
        rules = self.rules(Rule('r', '1/d ban 2 in 1h for 2h'))
        outcome = rules.decide_now(request(client='192.0.2.7'))
        self.assertEqual(outcome.status, 403)
        self.assertNotIn('Retry-After', dict(outcome.fields))

    def test_several_rates_name_the_one(self):
        outcome = self.outcome('100/d; 1/h')
        self.assertEqual(outcome.violated, ['r/2'])

    def test_options_of_the_fields(self):
        outcome = self.outcome('1/h', least_retry_after=7300.5, legacy='delta',
                               extra_fields={'X-Help': '/limits'})
        fields = dict(outcome.fields)
        self.assertEqual((fields['Retry-After'], fields['X-RateLimit-Limit'], fields['X-Help']),
                         ('7301', '1', '/limits'))
        seen = []

        def extra(one, what):
            seen.append((one.path, what.admitted))
            return {'X-Path': one.path}

        def hostile(one, what):
            return {'X-Path': one.path, 'X-Split': 'a\r\nSet-Cookie: b=c', 'X-€': 'd', 'X-N': 5}

        with self.assertLogs('brim', logging.WARNING) as logs:
            fields = dict(self.outcome('1/h', extra_fields=hostile).fields)
        self.assertEqual([name for name in fields if name[:2] == 'X-'], ['X-Path'])
        self.assertEqual(len(logs.output), 1)

        outcome = self.outcome('1/h', extra_fields=extra)
        self.assertEqual(dict(outcome.fields)['X-Path'], '/')
        self.assertEqual(seen, [('/', False)] * 2)

    def test_a_queue_names_its_delay(self):
        outcome = self.outcome('queue 1/h burst 5', times=3)
        self.assertTrue(outcome.admitted)
        self.assertTrue(3600 < outcome.delay <= 7200)

    def test_on_unavailable(self):
        for what, admitted, status in [('allow', True, 200), ('deny', False, 503)]:
            self.remove(self.name)
            brim.Limiter.open(self.name, policies={'r': f'1/d on-unavailable {what}'})
            rules = Rules(lambda: brim.Limiter.attach_read_only(self.name), [Rule('r')])
            outcome = rules.decide_now(request())
            self.assertEqual(outcome.decision.verdict, brim.Verdict.UNAVAILABLE)
            self.assertEqual((outcome.admitted, outcome.status), (admitted, status))
            self.assertEqual(dict(outcome.fields), {} if admitted else {'Retry-After': '1'})
        self.assertTrue(outcome.problem()['type'].endswith('#temporary-reduced-capacity'))


class Attaching(Case):
    def setUp(self):
        super().setUp()
        self.clock = 1000.0
        # Looks at the segment are a second apart: the tests' second.
        real, _attachment.time = _attachment.time, self
        self.addCleanup(setattr, _attachment, 'time', real)

    def monotonic(self):
        return self.clock

    def test_nothing_is_opened_before_the_first_request(self):
        rules = self.rules(Rule('r', '2/d'))
        with self.assertRaises(brim.NotFound):
            brim.Limiter.attach(self.name)
        self.assertEqual(passed(rules, times=5), 2)
        self.assertTrue(brim.Limiter.attach(self.name).linked)

    def test_a_segment_has_room_for_all_rules_of_the_process(self):
        first = self.rules(Rule('a', '2/d'))
        second = self.rules(Rule('log', 'sliding-log 3/d'))  # needs cells
        self.assertEqual(passed(first, times=5), 2)
        self.assertEqual(passed(second, times=5), 3)

    def test_a_policy_that_does_not_fit_is_missing_alone(self):
        def table_is_full(limiter):
            with self.assertRaises(brim.Full):
                for i in range(1000):
                    limiter.define(f'p{i}', '1/d')

        for rare, prepare in [('sliding-log 5/m', lambda _: None), ('1/d', table_is_full)]:
            for closed in (False, True):
                self.renew()
                prepare(brim.Limiter.open(self.name, policies={'old': '2/d'}))
                rules = self.rules(Rule('old', '2/d', key=keys.everyone),
                                   Rule('rare', rare, path='/rare'), fail_closed=closed)
                with self.assertLogs('brim', logging.WARNING) as logs:
                    self.assertEqual(passed(rules, '/rare', times=2), 0 if closed else 2)
                    self.assertEqual(passed(rules, times=4), 2 if closed else 0)
                self.assertIn('rare', logs.output[0])
                self.assertEqual(len(logs.output), 1)

    def test_a_policy_that_did_not_fit_is_tried_again(self):
        limiter = brim.Limiter.open(self.name, max_policies=1, policies={'old': '9/d'})
        rules = self.rules(Rule('new', '2/d'))
        with self.assertLogs('brim', logging.WARNING):
            self.assertEqual(passed(rules, times=5), 5)
        limiter.remove_policy('old')
        brim.resize(self.name, max_policies=8)
        self.clock += 1.5
        self.assertEqual(passed(rules, times=5), 2)

    def test_rules_of_a_limiter_that_may_only_read(self):
        brim.Limiter.open(self.name, policies={'r': '1/d on-unavailable deny'})
        rules = Rules(lambda: brim.Limiter.attach_read_only(self.name),
                      [Rule('r', '1/d on-unavailable deny')])
        with self.assertNoLogs('brim', logging.WARNING):
            self.assertEqual(rules.decide_now(request()).status, 503)

    def test_what_is_stored_is_in_force(self):
        brim.Limiter.open(self.name, policies={'r': '3/d'})
        with self.assertLogs('brim', logging.WARNING) as logs:
            self.assertEqual(passed(self.rules(Rule('r', '9/d')), times=12), 3)
        self.assertEqual(len(logs.output), 1)
        self.assertIn("'3/d'", logs.output[0].replace('3/1d', '3/d'))

    def test_open_or_closed_without_a_segment(self):
        for closed in (False, True):
            opened = []

            def segment():
                opened.append(1)
                raise brim.PermissionDenied('permission_denied: no')

            rules = Rules(segment, [Rule('r', '1/d', path='/limited', key=lambda _: 'k')],
                          fail_closed=closed, least_retry_after=5)
            with self.assertLogs('brim', logging.WARNING) as logs:
                outcomes = [rules.decide_now(request('/limited')) for _ in range(50)]
                self.clock += 2
                outcomes += [rules.decide_now(request('/limited')) for _ in range(50)]
            self.assertEqual(len(opened), 2)  # not for each request
            self.assertEqual(len(logs.output), 1)  # neither that
            self.assertIsNone(rules.decide_now(request('/other')))
            if closed:
                self.assertEqual({(o.status, o.admitted, o.decision, *o.fields) for o in outcomes},
                                 {(503, False, None, ('Retry-After', '5'))})
                self.assertEqual(outcomes[0].problem()['violated-policies'], [])
                self.assertIn('unavailable', str(RateLimitExceeded(outcomes[0])))
            else:
                self.assertEqual(set(outcomes), {None})
            self.clock += 60
            with self.assertLogs('brim', logging.WARNING):
                rules.decide_now(request('/limited'))

    def test_it_is_limited_as_soon_as_it_can_be(self):
        working = []

        def segment():
            if not working:
                raise OSError('no')
            return brim.Limiter.open(self.name)

        rules = Rules(segment, [Rule('r', '2/d')])
        with self.assertLogs('brim', logging.WARNING):
            self.assertEqual(passed(rules, times=9), 9)
        working.append(1)
        self.clock += 1.5
        self.assertEqual(passed(rules, times=9), 2)

    def test_the_name_is_followed_to_another_segment(self):
        rules = self.rules(Rule('r', '2/d'))
        self.assertEqual(passed(rules, times=9), 2)
        brim.Limiter.unlink(self.name)
        other = brim.Limiter.create(self.name, policies={'r': '5/d'})
        self.assertEqual(passed(rules, times=9), 0)  # until it looks again
        self.clock += 1.5
        with self.assertLogs('brim', logging.WARNING):
            self.assertEqual(passed(rules, times=9), 5)
        self.assertEqual(other.policy('r').peek('192.0.2.9').remaining, 0)

    def test_a_live_change_shows_in_the_fields(self):
        rules = self.rules(Rule('r', '2/d'))
        brim.Limiter.open(self.name)
        rules.decide_now(request())
        brim.Limiter.open(self.name).change('r', '7/d')
        self.clock += 1.5
        self.assertIn('q=7', dict(rules.decide_now(request()).fields)['RateLimit-Policy'])

    def test_a_limiter_of_ones_own(self):
        with brim.Limiter.open(self.name, capacity=2048) as limiter:
            rules = Rules(limiter, [Rule('r', '2/d')])
            self.assertEqual(passed(rules, times=5), 2)
        with self.assertLogs('brim', logging.WARNING):  # it is closed: no worker dies of that
            self.assertEqual(passed(rules, times=5), 5)


def spawned(segment, times, total):
    """In another process: so many requests of one client."""
    rules = Rules(segment, [Rule('r', '100/d')])
    count = passed(rules, times=times)
    with total.get_lock():
        total.value += count


class Processes(Case):
    """Exact counts, however the workers came to be."""

    def test_forks_before_and_after_the_first_request(self):
        for early in (0, 10):
            self.remove(self.name)
            rules = self.rules(Rule('r', '100/d'))
            count = passed(rules, times=early)
            pids, (read, write) = [], os.pipe()
            for _ in range(4):
                pid = os.fork()
                if pid == 0:
                    status = 1
                    try:
                        os.write(write, bytes([passed(rules, times=60)]))
                        status = 0
                    finally:
                        os._exit(status)
                pids.append(pid)
            os.close(write)
            self.assertEqual([os.waitpid(pid, 0)[1] for pid in pids], [0] * 4)
            with os.fdopen(read, 'rb') as answers:
                count += sum(answers.read())
            self.assertEqual(count, 100)

    def test_spawned_workers(self):
        context = multiprocessing.get_context('spawn')
        total = context.Value('i', 0)
        workers = [context.Process(target=spawned, args=(self.name, 60, total))
                   for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            self.assertEqual(worker.exitcode, 0)
        self.assertEqual(total.value, 100)

    def test_threads_that_meet_at_the_first_request(self):
        rules = self.rules(Rule('r', '100/d'), Rule('all', '1000/d', key=keys.everyone))
        counts, start = [], threading.Barrier(8)

        def work():
            start.wait()
            counts.append(passed(rules, times=30))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(counts), 100)


if __name__ == '__main__':
    unittest.main()
