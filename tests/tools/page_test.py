# SPDX-License-Identifier: MIT
"""The page of brim serve in a real browser: it draws what the segment counts, a hostile key is
text, no script of a stranger runs, and nothing outside is asked for.

Method: headless Chromium, driven over WebDriver with the standard library; a worker gives the
segment traffic. Skipped with a line that names the package where Chromium is absent. BRIM_SHOTS is
a folder for pictures to look at.
"""
import base64
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request

from serve_support import Load, Server, need, wait_for
from support import OK, BrimTest, brim, main

HOSTILE = [b'<script>document.title="owned"</script>', b'<img src=x onerror="document.title=1">',
           b'"><svg onload=document.title=2>', b'\xff\xfe\x1b[2J\xe2\x80\xaegpj.exe',
           b'javascript:document.title=3', b'=1+1', b'k' * 300]


class Browser:
    """Chromium behind chromedriver, both children of this test, on ports of their own."""

    def __init__(self, test, *options):
        self.folder = tempfile.mkdtemp()
        test.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        env = {name: value for name, value in os.environ.items() if 'proxy' not in name.lower()}
        self.driver = subprocess.Popen([shutil.which('chromedriver'), '--port=0'], env=env,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        test.addCleanup(self.end)
        self.open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        port = None
        while port is None:
            line = self.driver.stdout.readline().decode()
            test.assertNotEqual(line, '', 'chromedriver has ended')
            if 'started successfully on port' in line:
                port = int(line.strip(' .\n').split()[-1])
        self.url = f'http://127.0.0.1:{port}/session'
        chrome = {'binary': shutil.which('chromium'), 'args': [
            '--headless', '--no-sandbox', '--no-proxy-server', '--disable-dev-shm-usage',
            '--disable-gpu', '--disable-background-networking', '--disable-component-update',
            '--no-first-run', '--user-data-dir=' + self.folder, *options]}
        session = self.call('POST', '', {'capabilities': {'alwaysMatch': {
            'browserName': 'chrome', 'goog:chromeOptions': chrome,
            'goog:loggingPrefs': {'browser': 'ALL', 'performance': 'ALL'}}}})
        self.url += '/' + session['sessionId']

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method,
                                         headers={'Content-Type': 'application/json'})
        with self.open(request, timeout=120) as answer:
            return json.load(answer)['value']

    def go(self, url):
        self.call('POST', '/url', {'url': url})

    def run(self, script):
        return self.call('POST', '/execute/sync', {'script': 'return ' + script, 'args': []})

    def log(self, kind):
        return self.call('POST', '/se/log', {'type': kind})

    def picture(self, name, width, height, dark):
        for command, values in (
                ('Emulation.setDeviceMetricsOverride',
                 {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False}),
                ('Emulation.setEmulatedMedia', {'features': [
                    {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}]})):
            self.call('POST', '/goog/cdp/execute', {'cmd': command, 'params': values})
        shot = base64.b64decode(self.call('GET', '/screenshot'))
        if 'BRIM_SHOTS' in os.environ:
            with open(os.path.join(os.environ['BRIM_SHOTS'], name + '.png'), 'wb') as file:
                file.write(shot)
        return shot

    def end(self):
        try:
            self.call('DELETE', '')
        except OSError:
            pass
        self.driver.terminate()
        self.driver.wait()
        self.driver.stdout.close()


class Page(BrimTest):
    def test_the_page(self):
        name = self.create('--policy', 'q=2/h', '--name-bytes', '64', policy='p=500/m')
        gone = self.name()
        self.fill(name, HOSTILE * 3, 'q')
        server = Server(self, name, gone)
        Load(self, name, 'p', HOSTILE + [b'key%d' % i for i in range(200)])
        browser = Browser(self)
        browser.go(server.url)
        points = 'Math.max(0, ...[...document.querySelectorAll("svg[data-points]")]' \
                 '.map((svg) => +svg.dataset.points))'
        self.assertTrue(wait_for(lambda: browser.run(points) >= 2), browser.log('browser'))

        def text(chosen):
            return browser.run(f'document.querySelector("{chosen}").textContent')

        # The numbers are there, and the chart has an area.
        self.assertTrue(wait_for(lambda: text('#rate') not in ('-', '0')))
        self.assertEqual(text('#state'), 'read-only view')
        self.assertIn('allowed', text('#rate-more'))
        self.assertEqual(browser.run('document.querySelectorAll("#charts h3").length'), 2)
        self.assertGreater(browser.run('document.querySelector("path.denied").getBBox().height'), 0)
        self.assertEqual(text('#attached'), '1')
        self.assertGreater(browser.run('document.querySelectorAll("#probes tr").length'), 5)

        self.assertTrue(wait_for(lambda: browser.run(
            'document.querySelectorAll("#hot td.key").length') > 3))
        self.assertIn('one of 1024 decisions', text('#hot-title'))

        # Hostile keys are text, cells of the tables, and no script of theirs has run.
        cells = browser.run('[...document.querySelectorAll("#refused td.key")]'
                            '.map((cell) => cell.textContent)')
        self.assertIn(HOSTILE[0].decode().replace('"', '%22'), cells)
        self.assertTrue([cell for cell in cells if cell.startswith('%FF%FE%1B')])
        self.assertEqual(browser.run('document.querySelectorAll("td.key *").length'), 0)
        self.assertEqual(browser.run('document.title'), 'brim')
        self.assertEqual(browser.run('[...document.scripts].map((each) => each.src)'),
                         [server.url + 'page.js'])
        for picture, width, height, dark in (('light', 1280, 1500, False),
                                             ('dark', 1280, 1500, True),
                                             ('narrow', 390, 2900, False)):
            self.assertGreater(len(browser.picture(picture, width, height, dark)), 10000)
            wide = browser.run('document.documentElement.scrollWidth')
            self.assertLessEqual(wide, width, 'the page is wider than the window')

        # The kill switch is told loudly, and what it admits is in the chart.
        notice = 'document.querySelector("#paused").getClientRects().length'
        self.assertEqual(browser.run(notice), 0)
        self.assertEqual(brim('pause', name).code, OK)
        self.assertTrue(wait_for(lambda: browser.run(notice) == 1))
        self.assertIn('PAUSED: everything is admitted', text('#paused'))
        self.assertTrue(wait_for(lambda: 'admitted while paused' in text('#rate-more')))
        self.assertTrue(wait_for(lambda: browser.run(
            'document.querySelector("path.paused").getBBox().height') > 0))
        browser.picture('paused', 1200, 1500, False)
        self.good('resume', name)
        self.assertTrue(wait_for(lambda: browser.run(notice) == 0))

        # Another segment is chosen: it is told to be gone.
        browser.run('document.querySelectorAll("#segments button")[1].click()')
        self.assertTrue(wait_for(lambda: text('#state') == 'gone'))
        self.good('create', gone, '--policy', 'new=1/d')
        self.assertTrue(wait_for(lambda: text('#state') == 'read-only view'))
        self.assertTrue(wait_for(lambda: browser.run(
            'document.querySelector("#charts h3").textContent') == 'new'))

        self.assertEqual(browser.log('browser'), [])  # nothing on the console
        asked = set()
        for entry in browser.log('performance'):
            message = json.loads(entry['message'])['message']
            if message['method'] == 'Network.requestWillBeSent':
                asked.add(message['params']['request']['url'])
        # The tab before the page was Chromium's own: chrome: and data:.
        asked = {url for url in asked if not url.startswith(('chrome://', 'data:'))}
        self.assertGreater(len(asked), 5)
        self.assertEqual([url for url in asked if not url.startswith(server.url)], [])

        # The server ends, and the page says so.
        server.end()
        self.assertTrue(wait_for(lambda: text('#state').startswith('no answer')))


if __name__ == '__main__':
    need(('chromium', 'chromium'), ('chromedriver', 'chromium-driver'))
    main()
