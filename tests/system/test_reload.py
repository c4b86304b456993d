#!/usr/bin/env python3
"""SIGHUP: who may attach changes, what an attached client relies on does not, and a broken file changes nothing.

usage: test_reload.py WARMTIERCTL WARMTIERD
"""
import os
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
STRANGER = 54321


class Reload(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='warmtier-reload.')
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o755)
        self.socket = os.path.join(self.directory, 'sock')
        self.config = os.path.join(self.directory, 'warmtierd.conf')
        self.write('')
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notify.close)
        path = os.path.join(self.directory, 'notify')
        self.notify.bind(path)
        self.log = open(os.path.join(self.directory, 'log'), 'w+', encoding='utf-8')
        self.addCleanup(self.log.close)
        self.daemon = subprocess.Popen(
            [DAEMON, '--config', self.config, '--store', self.directory + '/store', '--socket', self.socket, '--dimensions', '4'],
            stdout=self.log, stderr=self.log, env=dict(os.environ, NOTIFY_SOCKET=path))
        self.addCleanup(self.end)
        self.said = []
        self.await_word('READY=1')

    def end(self):
        self.daemon.kill()
        self.daemon.wait()

    def write(self, text):
        with open(self.config, 'w', encoding='utf-8') as file:
            file.write(text)

    def await_word(self, word):
        pidfd = os.pidfd_open(self.daemon.pid)
        try:
            while word not in self.said:
                ready, _, _ = select.select([self.notify, pidfd], [], [], PATIENCE_S)
                if self.notify not in ready:
                    self.fail(f'no {word}: {self.text()}')
                self.said += self.notify.recv(4096).decode().splitlines()
        finally:
            os.close(pidfd)

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def reload(self):
        self.said = []
        self.daemon.send_signal(signal.SIGHUP)
        self.await_word('READY=1')
        self.assertIn('RELOADING=1', self.said)

    def ctl(self, *arguments, user=None):
        return subprocess.run([CTL, '--socket', self.socket, '--timeout', '2000', *arguments], capture_output=True, text=True,
                              timeout=PATIENCE_S, user=user)

    @unittest.skipUnless(os.geteuid() == 0, 'only root can be somebody else')
    def test_access_is_as_the_file_says_for_whoever_attaches_then(self):
        # A copy, because the way to the program may be closed to others.
        global CTL
        program = shutil.copy(CTL, self.directory)
        library = os.path.join(os.path.dirname(CTL), '..', 'libclient', 'libwarmtier.so.0')
        shutil.copy(library, self.directory)
        before, CTL = CTL, program
        self.addCleanup(lambda: globals().update(CTL=before))
        os.environ['LD_LIBRARY_PATH'] = self.directory
        self.addCleanup(os.environ.pop, 'LD_LIBRARY_PATH')
        answer = self.ctl('status', user=STRANGER)
        self.assertEqual(answer.returncode, 1)
        self.assertIn(f'may not connect to {self.socket} (mode 0600, user 0, group 0): Permission denied', answer.stderr)
        self.write(f'[access.users]\n{STRANGER} = "read"\n')
        self.reload()
        answer = self.ctl('status', user=STRANGER)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.write('')
        self.reload()
        self.assertEqual(self.ctl('status', user=STRANGER).returncode, 1)
        self.assertEqual(self.ctl('status').returncode, 0)

    def test_a_broken_file_changes_nothing_and_is_named(self):
        self.write('[store]\nspeed = 3\n')
        self.reload()
        self.assertIn('<3>the settings stay as they were: ' + self.config + ':2: unknown key store.speed', self.text())
        self.assertEqual(self.ctl('status').returncode, 0)

    def test_what_waits_for_the_next_start_is_said(self):
        self.write('[store]\nprepared_slots = 2048\n')
        self.reload()
        self.assertIn('<4>store.prepared_slots was changed; that holds from the next start on', self.text())

    def test_what_is_fixed_is_not_promised_for_the_next_start(self):
        for setting in ('capacity = 77', 'segment_bytes = 65536'):
            self.write('[store]\n' + setting + '\n')
            self.reload()
            self.assertRegex(self.text(), '<3>the next start will fail with these settings: the store has .* fixed when it is made')
            self.assertNotIn('that holds from the next start on', self.text())
            self.log.truncate(0)

    def test_a_store_that_is_not_as_asked_for_is_a_wrong_setting(self):
        self.daemon.terminate()
        self.assertEqual(self.daemon.wait(PATIENCE_S), 0)
        self.write('[store]\nsegment_bytes = 65536\n')
        for arguments in (['--dimensions', '8'], ['--capacity', '77'], ['--config', self.config],
                          ['--socket', '/' + 120 * 'x'], ['--socket', os.path.join(self.directory, 'no', 'sock')]):
            answer = subprocess.run([DAEMON, '--store', self.directory + '/store', '--socket', self.socket, *arguments],
                                    capture_output=True, text=True, timeout=PATIENCE_S)
            self.assertEqual(answer.returncode, 1 if arguments[1].endswith('/no/sock') else 2, answer.stderr)
            self.assertIn(arguments[1] if arguments[0] == '--socket' else 'fixed when', answer.stderr)
            self.assertNotIn('.new', answer.stderr)

    def test_a_start_without_a_place_for_its_socket_makes_no_store(self):
        self.assertEqual(self.ctl('status').returncode, 0)
        for place, why in ((self.socket, 'a daemon answers'), (os.path.join(self.directory, 'no', 'sock'), 'No such file'),
                           (self.config, 'is not a socket')):
            store = os.path.join(self.directory, 'new')
            answer = subprocess.run([DAEMON, '--store', store, '--socket', place], capture_output=True, text=True, timeout=PATIENCE_S)
            self.assertEqual(answer.returncode, 1, answer.stderr)
            self.assertIn(place, answer.stderr)
            self.assertIn(why, answer.stderr)
            self.assertFalse(os.path.exists(store))


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
