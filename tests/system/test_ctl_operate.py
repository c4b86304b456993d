#!/usr/bin/env python3
"""warmtierctl: recall, changes and what an operator orders.

usage: test_ctl_operate.py WARMTIERCTL WARMTIERD
"""
import collections
import ctypes
import json
import math
import os
import pty
import re
import signal
import struct
import subprocess
import time
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from warm_daemon import PATIENCE_S, Daemon  # noqa: E402

CTL, DAEMON = sys.argv[1:3]


class Terminal:
    """Both ends of a terminal; what was written to it."""

    def __init__(self):
        self.ours, self.theirs = pty.openpty()

    def close_theirs(self):
        os.close(self.theirs)

    def read(self):
        said = b''
        try:
            while piece := os.read(self.ours, 65536):
                said += piece
        except OSError:  # EIO: the last one that had it open is gone
            pass
        os.close(self.ours)
        return said


class Operate(unittest.TestCase):
    dimensions = 4

    def setUp(self):
        self.daemon = Daemon(DAEMON, dimensions=self.dimensions, capacity=4096)
        self.addCleanup(self.daemon.close)

    def command(self, *arguments):
        return [CTL, '--socket', self.daemon.socket, *arguments]

    def ctl(self, *arguments, stdin='', code=0):
        answer = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=PATIENCE_S, input=stdin)
        self.assertEqual(answer.returncode, code, (arguments, answer))
        return answer.stdout if code == 0 else answer.stderr

    def json(self, *arguments, **more):
        return json.loads(self.ctl(*arguments, '--json', **more))

    def json_lines(self, *arguments, **more):
        return [json.loads(line) for line in self.ctl(*arguments, '--json', **more).splitlines()]

    def put(self, identity, embedding, content=None, **fields):
        record = {'id': identity, 'embedding': embedding, 'content': content, **fields}
        self.ctl('import', '--quiet', stdin=json.dumps(record) + '\n')


class Recall(Operate):
    def setUp(self):
        super().setUp()
        self.put('east', [2, 0, 0, 0], 'to the east')
        self.put('northeast', [1, 1, 0, 0])
        self.put('west', [-1, 0, 0, 0], 'to the west', confidence=0.5)

    def test_by_a_vector_in_three_forms(self):
        with tempfile.TemporaryDirectory() as directory:
            raw = struct.pack('<4f', 1, 0, 0, 0)
            header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"
            forms = {'raw': raw, 'list': b'[1, 0, 0, 0]', 'npy': b'\x93NUMPY\1\0' + struct.pack('<H', len(header)) + header + raw}
            for name, content in forms.items():
                path = os.path.join(directory, name)
                with open(path, 'wb') as file:
                    file.write(content)
                hits = self.json_lines('recall', '--vector', path)
                self.assertEqual([hit['id'] for hit in hits], ['east', 'northeast', 'west'], name)
        self.assertEqual([round(hit['score'], 6) for hit in hits], [1, 0.707107, -1])
        self.assertEqual([hit['content'] for hit in hits], ['to the east', None, 'to the west'])
        self.assertNotIn('embedding', hits[0])

    def test_by_an_id_and_with_options(self):
        self.assertEqual([hit['id'] for hit in self.json_lines('recall', 'east', '-k', '2')], ['east', 'northeast'])
        self.assertEqual([hit['id'] for hit in self.json_lines('recall', 'east', '--threshold', '0.5')], ['east', 'northeast'])
        self.assertEqual([hit['id'] for hit in self.json_lines('recall', 'east', '--confidence', '0.5')], ['west'])
        self.assertEqual([hit['score'] for hit in self.json_lines('recall', 'east', '--metric', 'dot')], [4, 2, -2])
        self.assertEqual([hit['score'] for hit in self.json_lines('recall', 'east', '--metric', 'l2', '-k', '1')], [0])
        self.assertAlmostEqual(self.json_lines('recall', 'east', '--score', 'tier')[0]['score'], 0.95, places=3)
        self.assertEqual(self.json_lines('recall', 'east', '-k', '1', '--with-embedding')[0]['embedding'], [2, 0, 0, 0])
        shown = self.ctl('recall', 'east').splitlines()
        self.assertEqual(shown[0], ' 1.00000  east  to the east')
        self.assertEqual(len(shown), 3)

    def test_what_cannot_be_asked_is_refused_with_the_reason(self):
        self.assertIn('WARM_E_NOT_FOUND', self.ctl('recall', 'nothing', code=3))
        self.assertIn('dimensions are 4', self.ctl('recall', '--text', 'any words', code=1))
        self.assertIn('3 numbers', self.ctl('recall', '--vector', '-', stdin='[1, 2, 3]', code=1))
        self.ctl('recall', code=2)
        self.ctl('recall', 'east', '--text', 'both', code=2)
        self.ctl('recall', 'east', '--metric', 'manhattan', code=2)
        self.ctl('recall', 'east', '-k', '0', code=2)


def lexical(text):
    """The demo's embedding of a text, a second time: hashed words and n-grams, signed, of length 1 (tools/lexical.hpp)."""
    xxhash = ctypes.CDLL('libxxhash.so.0')
    xxhash.XXH3_64bits_withSeed.restype = ctypes.c_uint64
    xxhash.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    features = collections.Counter()
    for word in re.findall(r'[a-z0-9]+', text.lower()):
        features[xxhash.XXH3_64bits_withSeed(word.encode(), len(word), 0x9E3779B97F4A7C15), 2] += 1
        marked = f'^{word}$'
        for n in (3, 4, 5):
            for i in range(len(marked) - n + 1):
                features[xxhash.XXH3_64bits_withSeed(marked[i:i + n].encode(), n, 0xC2B2AE3D27D4EB4F), 1] += 1
    sums = [0.0] * 768
    for (number, weight), count in features.items():
        sums[(number >> 1) % 768] += weight * (1 + math.log(count)) * (1 if number & 1 else -1)
    length = math.sqrt(sum(x * x for x in sums))
    return [x / length for x in sums]


class RecallByText(Operate):
    dimensions = 768

    def test_texts_are_near_when_they_share_words(self):
        texts = ('the branch of physics', 'a branch of a tree', 'a harbour full of ships')
        for text in texts:
            self.put(text, lexical(text))
        hits = self.json_lines('recall', '--text', 'A branch, of a tree')
        self.assertEqual([hit['id'] for hit in hits], [texts[1], texts[0], texts[2]])
        self.assertAlmostEqual(hits[0]['score'], 1, places=5)
        self.assertEqual(self.json_lines('recall', '--text', 'ships', '-k', '1')[0]['id'], texts[2])


class Changes(Operate):
    def test_a_wait_ends_with_the_next_change(self):
        before = int(self.ctl('status', '--json') and self.json('status')['sequence'])
        with subprocess.Popen(self.command('wait', '--after', str(before)), stdout=subprocess.PIPE, text=True) as waiting:
            self.put('one', [0] * 4)
            said, _ = waiting.communicate(timeout=PATIENCE_S)
        self.assertEqual((waiting.returncode, int(said)), (0, before + 1))
        self.assertEqual(self.json('wait', '--after', str(before)), {'sequence': before + 1})
        self.assertIn('WARM_E_BUSY', self.ctl('wait', '--timeout', '20', code=5))

    def test_changes_are_told_in_order(self):
        before = self.json('status')['sequence']
        self.put('one', [0] * 4)
        self.put('one', [1] * 4)
        self.ctl('rm', 'one')
        changes = self.json_lines('changes', '--after', str(before))
        self.assertEqual([(change['kind'], change['id']) for change in changes], [('put', 'one'), ('replace', 'one'), ('remove', 'one')])
        self.assertEqual([change['sequence'] for change in changes], [before + 1, before + 2, before + 3])
        self.assertEqual(self.ctl('changes', '--after', str(before + 2)), f'{before + 3}  remove  one\n')
        self.assertEqual(self.ctl('changes'), '')
        with subprocess.Popen(self.command('changes', '--after', str(before + 3), '--follow'), stdout=subprocess.PIPE, text=True) as following:
            self.put('two', [0] * 4)
            self.assertEqual(following.stdout.readline(), f'{before + 4}  put  two\n')
            following.kill()


class Scalars(Operate):
    def test_an_update_changes_what_it_names(self):
        self.put('one', [1, 2, 3, 4], 'content', activation=5, created_ns=9)
        before = self.json('get', 'one')
        self.assertGreater(int(self.ctl('update', 'one', '--confidence', '0.25', '--recall-count', '7')), before['sequence'])
        self.assertEqual(self.json('get', 'one'), {**before, 'confidence': 0.25, 'recall_count': 7})
        self.assertIn('WARM_E_CHANGED', self.ctl('update', 'one', '--activation', '1', '--if-sequence', '999999', code=4))
        self.assertIn('WARM_E_NOT_FOUND', self.ctl('update', 'none', '--activation', '1', code=3))
        self.assertIn('--confidence', self.ctl('update', 'one', code=2))

    def test_a_touch_is_counted_a_moment_later(self):
        self.put('one', [1, 2, 3, 4], recall_count=3)
        # An id that names nothing is left out; a touch has no sequence that could be waited for.
        self.assertEqual(self.ctl('touch', 'one', 'none'), '1\n')
        late = time.monotonic() + 20
        while self.json('get', 'one')['recall_count'] == 3 and time.monotonic() < late:
            pass
        self.assertEqual(self.json('get', 'one')['recall_count'], 4)


class Orders(Operate):
    def test_sessions_say_who_is_there(self):
        with subprocess.Popen(self.command('wait'), stdout=subprocess.PIPE) as waiting:
            while waiting.pid not in (pids := {session['pid'] for session in self.json_lines('sessions')}):
                self.assertIsNone(waiting.poll(), pids)
            session = next(s for s in self.json_lines('sessions') if s['pid'] == waiting.pid)
            self.assertEqual((session['uid'], session['views']), (os.getuid(), 0))
            self.assertIn(str(waiting.pid), self.ctl('sessions'))
            self.put('end', [0] * 4)
            self.assertEqual(waiting.wait(PATIENCE_S), 0)

    def test_what_nobody_has_handed_back_is_not_counted_as_nothing(self):
        with subprocess.Popen(self.command('wait'), stdout=subprocess.PIPE) as waiting:
            while waiting.pid not in {session['pid'] for session in self.json_lines('sessions')}:
                self.assertIsNone(waiting.poll())
            os.kill(waiting.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, waiting.pid, os.WSTOPPED)
            self.daemon.kill()
            self.daemon.start()
            session = next(s for s in self.json_lines('sessions') if s['pid'] == waiting.pid)
            self.assertEqual((session['state'], session['views'], session['view_bytes']), (3, None, None))
            line = next(line for line in self.ctl('sessions').splitlines() if f' {waiting.pid} ' in line)
            self.assertRegex(line, r' \? .*unknown')
            waiting.kill()

    def test_a_checkpoint_brings_everything_to_the_device(self):
        self.put('one', [0] * 4)
        visible = self.json('status')['sequence']
        self.assertGreaterEqual(self.json('checkpoint')['sequence'], visible)
        self.assertGreaterEqual(self.json('status')['sequence_durable'], visible)

    def test_clear_asks_on_a_terminal_and_wants_yes_elsewhere(self):
        for i in range(5):
            self.put(str(i), [0] * 4)
        self.assertIn('--yes', self.ctl('clear', code=2))
        for answer, code, left in ((b'no\n', 1, 5), (b'y\n', 1, 5), (b'yes\n', 0, 0)):
            terminal = Terminal()
            with subprocess.Popen(self.command('clear'), stdin=terminal.theirs, stdout=subprocess.PIPE, stderr=terminal.theirs) as clearing:
                terminal.close_theirs()
                os.write(terminal.ours, answer)
                said = clearing.stdout.read()
                self.assertEqual(clearing.wait(PATIENCE_S), code)
            self.assertIn(b'Remove all 5 records?', terminal.read())
            self.assertEqual(said, b'' if code else b'5\n')
            self.assertEqual(self.ctl('count'), f'{left}\n')
        self.put('one', [0] * 4)
        self.assertEqual(self.json('clear', '--yes'), {'removed': 1})

    def test_a_terminal_sees_a_bar_and_none_is_left(self):
        lines = ''.join(json.dumps({'id': str(i), 'embedding': [0] * 4}) + '\n' for i in range(100))
        for quiet in ([], ['--quiet']):
            terminal = Terminal()
            with subprocess.Popen(self.command('import', *quiet), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                  stderr=terminal.theirs) as importing:
                terminal.close_theirs()
                importing.communicate(lines.encode(), timeout=PATIENCE_S)
            said = terminal.read()
            if quiet:
                self.assertEqual(said, b'')
            else:
                self.assertIn(b' bytes', said)
                self.assertTrue(said.endswith(b'\r\x1b[K'), said)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
