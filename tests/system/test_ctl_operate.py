#!/usr/bin/env python3
"""warmtierctl: changes and what an operator orders.

usage: test_ctl_operate.py WARMTIERCTL WARMTIERD
"""
import json
import os
import pty
import subprocess
import sys
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

    def test_a_checkpoint_brings_everything_to_the_device(self):
        self.put('one', [0] * 4)
        visible = self.json('status')['sequence']
        self.assertGreaterEqual(self.json('checkpoint')['sequence'], visible)
        self.assertGreaterEqual(self.json('status')['sequence_durable'], visible)

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
