#!/usr/bin/env python3
"""Numbers over HTTP as a monitor sees them: true to warmtierctl, well-formed, and there whatever other clients of the endpoint do.

usage: test_metrics.py WARMTIERCTL WARMTIERD
"""
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

CTL, DAEMON = sys.argv[1:3]
PATIENCE_S = 60
DERIVED = {'memory_count', 'total_size_bytes', 'content_storage_bytes', 'content_fragmentation_bytes', 'fragmentation_ratio', 'content_operations'}


class UnixHttp(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__('localhost', timeout=PATIENCE_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self.path)


class Metrics(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='warmtier-metrics.')
        self.addCleanup(shutil.rmtree, self.directory)
        self.socket = os.path.join(self.directory, 'sock')
        self.metrics = os.path.join(self.directory, 'metrics')
        self.log = open(os.path.join(self.directory, 'log'), 'w+', encoding='utf-8')
        self.addCleanup(self.log.close)
        config = os.path.join(self.directory, 'conf')
        with open(config, 'w', encoding='utf-8') as file:
            file.write(f'[daemon]\nmetrics_socket = "{self.metrics}"\n')
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(self.directory + '/notify')
            self.daemon = subprocess.Popen(
                [DAEMON, '--config', config, '--store', self.directory + '/store', '--socket', self.socket, '--dimensions', '4', '--capacity', '4096'],
                stdout=self.log, stderr=self.log, env=dict(os.environ, NOTIFY_SOCKET=self.directory + '/notify'))
            self.addCleanup(self.end)
            pidfd = os.pidfd_open(self.daemon.pid)
            ready, _, _ = select.select([notify, pidfd], [], [], PATIENCE_S)
            os.close(pidfd)
            self.assertIn(notify, ready, 'not ready')

    def end(self):
        self.daemon.kill()
        self.daemon.wait()

    def get(self, path):
        connection = UnixHttp(self.metrics)
        connection.request('GET', path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        self.assertEqual(answer.status, 200, body)
        return answer, body

    def numbers(self):
        answer, body = self.get('/api/v1/metrics/storage')
        self.assertEqual(answer.getheader('Content-Type'), 'application/json')
        return json.loads(body)

    def ctl(self, *arguments, stdin=''):
        answer = subprocess.run([CTL, '--socket', self.socket, *arguments], input=stdin, capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        return answer.stdout

    def put(self, name, content):
        self.ctl('put', name, '--embedding', '-', '--content', content, stdin='[1, 2, 3, 4]')

    def test_json_says_what_status_says_and_what_follows_from_it(self):
        for i in range(5):
            self.put(f'memory:{i}', 'x' * 100)
        self.ctl('rm', 'memory:0')
        for i in (1, 1, 2):
            self.ctl('get', f'memory:{i}')
        numbers = self.numbers()
        status = json.loads(self.ctl('status', '--json'))
        strangers = set(numbers) - set(status) - DERIVED
        self.assertEqual(strangers, set())
        for name in ('records', 'capacity', 'puts', 'removes', 'gets', 'segments', 'content_bytes_live', 'content_bytes_total', 'sequence'):
            self.assertEqual(numbers[name], status[name], name)
        self.assertEqual((numbers['memory_count'], numbers['puts'], numbers['removes'], numbers['gets']), (4, 5, 1, 3))
        self.assertEqual(numbers['content_operations'], 9)
        self.assertEqual(numbers['content_storage_bytes'], numbers['content_bytes_total'])
        self.assertEqual(numbers['content_fragmentation_bytes'], numbers['content_bytes_total'] - numbers['content_bytes_live'])
        self.assertGreater(numbers['content_fragmentation_bytes'], 100)
        self.assertAlmostEqual(numbers['fragmentation_ratio'], numbers['content_fragmentation_bytes'] / numbers['content_bytes_total'], places=5)
        self.assertEqual(numbers['total_size_bytes'], numbers['slots_allocated'] * 128 + numbers['content_bytes_total'])

    def test_prometheus_text_is_well_formed_and_says_the_same(self):
        self.put('memory', 'x')
        answer, text = self.get('/metrics')
        self.assertEqual(answer.getheader('Content-Type'), 'text/plain; version=0.0.4')
        self.assertTrue(text.endswith('\n'))
        values, kinds = {}, {}
        lines = text.splitlines()
        for comment, kind, value in zip(lines[::3], lines[1::3], lines[2::3]):
            described = re.fullmatch(r'# HELP (warmtier_[a-z_]+) [A-Z].+\.', comment)
            typed = re.fullmatch(r'# TYPE (\S+) (counter|gauge)', kind)
            valued = re.fullmatch(r'(\S+) ([0-9]+(?:\.[0-9]+)?)', value)
            self.assertTrue(described and typed and valued, (comment, kind, value))
            self.assertEqual({described[1], typed[1]}, {valued[1]})
            self.assertNotIn(valued[1], values)
            # What promtool looks for: a counter says so, nothing else does, units are base units, and no gauge looks like a histogram's.
            self.assertNotRegex(valued[1], r'_(count|sum|bucket)$')
            self.assertEqual(valued[1].endswith('_total'), typed[2] == 'counter', valued[1])
            self.assertNotRegex(valued[1], r'_(ns|ms|us|nanoseconds|milliseconds|kilobytes|mb)(_|$)')
            values[valued[1]], kinds[valued[1]] = float(valued[2]), typed[2]
        self.assertEqual(len(lines) % 3, 0)
        self.assertEqual((values['warmtier_records'], values['warmtier_puts_total']), (1, 1))
        self.assertEqual(len(values), len(self.numbers()))
        if shutil.which('promtool'):
            checked = subprocess.run(['promtool', 'check', 'metrics'], input=text, capture_output=True, text=True, check=False)
            self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ''))

    def test_who_misuses_the_endpoint_stops_neither_a_monitor_nor_the_store(self):
        rude = []
        for i in range(20):
            one = socket.socket(socket.AF_UNIX)
            one.connect(self.metrics)
            one.setblocking(False)
            rude.append(one)
            try:
                one.send((b'', b'GET', b'GET /metrics HTTP/1.1\r\nX: ', b'\0' * 9000, b'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n' * 50)[i % 5])
            except OSError:
                pass
        # All places are taken by those who say nothing; the store does not notice.
        self.put('memory', 'x')
        # They lose them one after the other, and the monitor has its turn.
        self.assertEqual(self.numbers()['records'], 1)
        for one in rude:
            one.close()
        self.assertIsNone(self.daemon.poll())

    def test_a_stop_takes_the_socket_away_and_waits_for_nobody(self):
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(self.metrics)
        silent.send(b'GET /me')
        self.daemon.send_signal(signal.SIGTERM)
        self.assertEqual(self.daemon.wait(PATIENCE_S), 0)
        self.assertFalse(os.path.exists(self.metrics))
        silent.close()


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
