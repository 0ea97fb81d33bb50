# SPDX-License-Identifier: MIT
"""Prometheus reads what brim serve and brim metrics tell: the alerts and the dashboard work on it.

Method: promtool checks the text and the rules, and fires each alert on made-up series; a real
Prometheus on a port of its own scrapes brim serve under load, and each expression of the dashboard
must find something there. Skipped with a line where Prometheus is not installed.
"""
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.parse
import urllib.request

from serve_support import Load, Server, need, wait_for
from support import BrimTest, main

ROOT = os.environ['BRIM_ROOT']
ALERTS = os.path.join(ROOT, 'docs', 'grafana', 'alerts.yml')
ENV = {name: value for name, value in os.environ.items() if 'proxy' not in name.lower()}
open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def read(*path):
    with open(os.path.join(ROOT, *path), encoding='utf-8') as file:
        return file.read()


def expressions(value):
    """Every "expr" in the dashboard."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name == 'expr':
                yield each
            else:
                yield from expressions(each)
    elif isinstance(value, list):
        for each in value:
            yield from expressions(each)


def told_by(text):
    """Names of metrics that have a sample."""
    return {re.match(r'\w+', line).group() for line in text.splitlines() if line[0] != '#'}


def asked_for(text):
    return set(re.findall(r'\bbrim_\w+', text))


class Prometheus:
    """A child with a port and a folder of its own."""

    def __init__(self, test, config):
        folder = tempfile.mkdtemp()
        test.addCleanup(shutil.rmtree, folder)
        with open(os.path.join(folder, 'prometheus.yml'), 'w', encoding='ascii') as file:
            file.write(config)
        self.process = subprocess.Popen(
            ['prometheus', f'--config.file={folder}/prometheus.yml', '--log.format=json',
             f'--storage.tsdb.path={folder}/data', '--web.listen-address=127.0.0.1:0'],
            env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        test.addCleanup(self.end)
        self.url = None
        while self.url is None:
            line = self.process.stderr.readline()
            test.assertNotEqual(line, b'', 'prometheus has ended')
            said = json.loads(line)
            if said.get('msg') == 'Listening on':
                self.url = 'http://' + said['address']

    def query(self, expression):
        url = self.url + '/api/v1/query?' + urllib.parse.urlencode({'query': expression})
        with open_url(url, timeout=60) as answer:
            return json.load(answer)['data']['result']

    def ready(self):
        try:
            with open_url(self.url + '/-/ready', timeout=60) as answer:
                return answer.status == 200
        except urllib.error.HTTPError:
            return False

    def end(self):
        self.process.terminate()
        self.process.communicate(timeout=60)


class TierTest(BrimTest):
    def telling(self, *options, policy='p=3/d'):
        """A segment that has something to tell of everything; its agent stays at work."""
        name = self.create('--policy', 'c=3/d scope cluster', *options, policy=policy)
        with tempfile.TemporaryDirectory() as folder:
            self.good('snapshot', 'take', name, '--file', os.path.join(folder, 's.db'))
        self.tier(name, 'alive=-86400000')
        return name


class Text(TierTest):
    def test_promtool_agrees(self):
        name = self.telling('--policy', 'q=concurrency 5')
        self.fill(name, [b'k', b'\xff"\\\n'])
        text = Server(self, name, self.name()).ask('/metrics')[2]
        done = subprocess.run(['promtool', 'check', 'metrics'], input=text, capture_output=True,
                              check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b''))
        # promtool does not see what a scrape refuses: the same series twice.
        series = [line.rsplit(' ', 1)[0] for line in text.decode().splitlines() if line[0] != '#']
        self.assertEqual(len(series), len(set(series)))
        # All samples of a metric are in a row.
        rows = [re.sub(r'_(bucket|count)$', '', re.match(r'\w+', line).group()) for line in series]
        self.assertEqual(len([1 for a, b in zip(rows, rows[1:]) if a != b]) + 1, len(set(rows)))

    def test_probe_lengths_are_a_histogram(self):
        name = self.create('--capacity', '64', policy='p=3/d')
        self.fill(name, [b'%d' % i for i in range(60)])
        text = self.good('metrics', name).text
        bins = [(float(le), int(count)) for le, count in re.findall(
            r'brim_probe_length_groups_bucket\{.*le="(.*)"\} (\d+)', text)]
        self.assertEqual([le for le, _ in bins], [0, 1, 3, 7, 15, 31, 63, 127, 255, float('inf')])
        counts = [count for _, count in bins]
        self.assertEqual(counts, sorted(counts))
        self.assertEqual((counts[-1], counts[0] > 0), (60, True))
        self.assertIn(f'brim_probe_length_groups_count{{segment="{name}"}} 60\n', text)

    def test_each_metric_is_described(self):
        """docs/guides/metrics.md has a row for each, and none for others."""
        name = self.telling()
        told = told_by(self.good('metrics', name).text)
        told = {re.sub(r'(?<=groups)_(bucket|count)$', '', each) for each in told}
        rows = set(re.findall(r'(?m)^\| `(brim_\w+)`', read('docs', 'guides', 'metrics.md')))
        self.assertEqual(told, rows)


class Rules(BrimTest):
    def test_promtool_agrees(self):
        done = subprocess.run(['promtool', 'check', 'rules', ALERTS], capture_output=True,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_each_alert_fires(self):
        tests = read('tests', 'tools', 'alerts_test.yml').replace('ALERTS', ALERTS)
        alerts = re.findall(r'- alert: (\w+)', read('docs', 'grafana', 'alerts.yml'))
        guide = read('docs', 'guides', 'metrics.md')
        for alert in alerts:
            self.assertRegex(tests, rf'alertname: {alert}\n +eval_time: .*\n +exp_alerts:\n +- exp')
            self.assertIn(f'`{alert}`', guide)
        with tempfile.NamedTemporaryFile('w', suffix='.yml', encoding='ascii') as file:
            file.write(tests)
            file.flush()
            done = subprocess.run(['promtool', 'test', 'rules', file.name], capture_output=True,
                                  check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Scraped(TierTest):
    def test_dashboard(self):
        name = self.telling('--policy', 'q=2/h', policy='p=500/m')
        server = Server(self, name, '--metrics-only')
        Load(self, name, 'p', [b'key%d' % i for i in range(20000)])  # new ones all the time
        prometheus = Prometheus(self, f'''
global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}
rule_files: ['{ALERTS}']
scrape_configs:
  - job_name: brim
    static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]
''')
        self.assertTrue(wait_for(prometheus.ready))
        self.assertTrue(wait_for(lambda: [row for row in prometheus.query('up{job="brim"}')
                                          if row['value'][1] == '1']))
        self.assertTrue(wait_for(lambda: prometheus.query('rate(brim_decisions_total[1m]) > 0')))
        dashboard = json.loads(read('docs', 'grafana', 'dashboard.json'))
        asked = list(expressions(dashboard))
        self.assertGreater(len(asked), 15)
        for expression in asked:
            query = expression.replace('$__rate_interval', '1m').replace('$segment', name)
            query = query.replace('$policy', '.*')
            if 'changes(' in query:
                query = query.replace('> 0', '== 0')  # it has not been made anew
            self.assertNotIn('$', query)
            rows = wait_for(lambda query=query: prometheus.query(query))
            self.assertTrue(rows, query)
            self.assertNotIn('NaN', [row['value'][1] for row in rows], query)
        done = subprocess.run(['promtool', 'query', 'instant', prometheus.url, 'brim_up'], env=ENV,
                              capture_output=True, check=False)
        self.assertIn(f'segment="{name}"}} => 1 @'.encode(), done.stdout)
        # No sample was refused, and the rules run.
        for metric in ('prometheus_target_scrapes_sample_duplicate_timestamp_total',
                       'prometheus_target_scrapes_sample_out_of_order_total',
                       'prometheus_rule_evaluation_failures_total'):
            for row in prometheus.query(metric):
                self.assertEqual(row['value'][1], '0', metric)
        self.assertEqual(prometheus.query('ALERTS{alertname!="BrimSegmentReplaced"}'), [])
        self.good('unlink', name)
        self.assertTrue(wait_for(lambda: prometheus.query(
            f'ALERTS{{alertname="BrimSegmentDown", segment="{name}"}}')))

    def test_what_is_asked_is_told(self):
        name = self.telling()
        told = told_by(self.good('metrics', name).text)
        for path in ('dashboard.json', 'alerts.yml'):
            asked = {each for each in asked_for(read('docs', 'grafana', path))}
            self.assertEqual(asked - told, set(), path)

    def test_textfile(self):
        exporter = shutil.which('prometheus-node-exporter')
        if exporter is None:
            self.skipTest('node_exporter is not installed (package prometheus-node-exporter)')
        name = self.create(policy='p=3/d')
        with tempfile.TemporaryDirectory() as folder:
            self.good('metrics', name, '--output', os.path.join(folder, 'brim.prom'))
            with subprocess.Popen(
                    [exporter, '--collector.disable-defaults', '--collector.textfile',
                     '--collector.textfile.directory=' + folder, '--log.format=json',
                     '--web.listen-address=127.0.0.1:0'], env=ENV, stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE) as process:
                try:
                    address = None
                    while address is None:
                        said = json.loads(process.stderr.readline())
                        if said.get('msg') == 'Listening on':
                            address = said['address']
                    with open_url(f'http://{address}/metrics', timeout=60) as answer:
                        text = answer.read().decode()
                finally:
                    process.terminate()
        self.assertIn(f'brim_up{{segment="{name}"}} 1\n', text)
        self.assertIn('node_textfile_scrape_error 0\n', text)
        self.assertEqual(told_by(self.good('metrics', name).text) - told_by(text), set())


class TheTests(unittest.TestCase):
    """A check that finds nothing proves nothing."""

    def test_parts(self):
        self.assertEqual(list(expressions({'a': [{'expr': 'x'}, {'b': {'expr': 'y'}}]})),
                         ['x', 'y'])
        self.assertEqual(told_by('# HELP a b\na_b{c="d"} 1\ne 2\n'), {'a_b', 'e'})
        self.assertEqual(asked_for('rate(brim_a_total[1m]) / on (x) brim_b'),
                         {'brim_a_total', 'brim_b'})


if __name__ == '__main__':
    need(('promtool', 'prometheus'), ('prometheus', 'prometheus'))
    main()
