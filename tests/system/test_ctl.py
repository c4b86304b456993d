#!/usr/bin/env python3
"""warmtierctl as a user sees it: answers, JSON, exit codes, and errors that say what to do.

usage: test_ctl.py WARMTIERCTL WARMTIERD
"""
import base64
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from warm_daemon import PATIENCE_S, Daemon  # noqa: E402

CTL, DAEMON = sys.argv[1:3]
DIMENSIONS = 8
COMMANDS = ('init', 'status', 'stats', 'put', 'get', 'rm', 'update', 'touch', 'list', 'count', 'recall', 'import', 'export', 'wait', 'changes',
            'sessions', 'checkpoint', 'clear', 'completion')


def run(*arguments, stdin=b'', environment=None):
    return subprocess.run([CTL, *arguments], input=stdin, capture_output=True, timeout=PATIENCE_S,
                          env=dict(os.environ, **(environment or {})))


class WithoutDaemon(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='warmtier-ctl.')
        self.addCleanup(shutil.rmtree, self.directory)

    def test_help_names_commands_and_exit_codes(self):
        answer = run('--help')
        self.assertEqual(answer.returncode, 0)
        for word in (*COMMANDS, 'Exit codes', '3 not found', '6 done in part', 'WARMTIER_SOCKET'):
            self.assertIn(word.encode(), answer.stdout)
        for command in COMMANDS:
            self.assertEqual(run(command, '--help').returncode, 0, command)
        self.assertIn(b'0.1.0', run('--version').stdout)

    def test_wrong_usage_exits_with_2_and_says_what(self):
        for arguments in ([], ['nonsense'], ['put'], ['put', 'x'], ['get'], ['rm'], ['init'], ['status', '--nonsense'],
                          ['init', self.directory + '/s', '--dimensions', '0'], ['init', self.directory + '/s', '--dimensions', '4097'],
                          ['init', self.directory + '/s', '--capacity', '4294967295'], ['get', 'x', '--id-hex', '00'],
                          ['get', '--id-hex', '0'], ['get', '--id-hex', 'zz'], ['get', 'x', '--id-base64', 'AA=='],
                          ['get', '--id-hex', '00', '--id-base64', 'AA=='], ['get', '--id-base64', 'AA='],
                          ['import', '--embeddings', '-'], ['completion'], ['completion', 'tcsh'], ['list', '--with-content', 'maybe'],
                          ['recall'], ['recall', 'x', '--vector', '-'], ['recall', 'x', '--metric', 'other'], ['update', 'x'], ['touch'],
                          ['clear', '--nonsense'],
                          ['put', 'x', '--embedding', '-', '--content-file', '-'], ['put', 'x', '--embedding', '-', '--content', 'a', '--no-content'],
                          ['put', 'x', '--embedding', '-', '--if-absent', '--if-sequence', '1'],
                          ['get', 'x', '--content-out', '-', '--embedding-out', '-']):
            answer = run(*arguments)
            self.assertEqual(answer.returncode, 2, (arguments, answer))
            self.assertEqual(answer.stdout, b'', arguments)
            self.assertTrue(answer.stderr.startswith(b'warmtierctl: '), arguments)
        self.assertIn(b"no command 'nonsense'", run('nonsense').stderr)
        self.assertIn(b"no command ''", run('').stderr)
        self.assertNotIn(b'no command', run('--nonsense').stderr)

    def test_init_makes_a_store_once(self):
        store = os.path.join(self.directory, 'store')
        answer = run('init', store, '--dimensions', '3', '--capacity', '2048', '--json')
        self.assertEqual((answer.returncode, json.loads(answer.stdout)), (0, {'directory': store, 'dimensions': 3, 'capacity': 2048}))
        self.assertTrue(os.path.exists(os.path.join(store, 'warm.tier')))
        again = run('init', store)
        self.assertEqual(again.returncode, 4, again)
        self.assertIn(b'WARM_E_EXISTS', again.stderr)
        nowhere = run('init', '/nonexistent/folder/store')
        self.assertEqual(nowhere.returncode, 1, nowhere)
        self.assertIn(b'/nonexistent', nowhere.stderr)

    def test_no_daemon_exits_with_5_and_names_the_path(self):
        nowhere = os.path.join(self.directory, 'no.sock')
        for arguments in (['status'], ['get', 'x'], ['rm', 'x']):
            answer = run('--socket', nowhere, '--timeout', '50', *arguments)
            self.assertEqual(answer.returncode, 5, answer)
            self.assertIn(nowhere.encode(), answer.stderr)
            self.assertIn(b'WARM_E_UNAVAILABLE', answer.stderr)
        answer = run('status', '--timeout', '50', environment={'WARMTIER_SOCKET': nowhere})
        self.assertEqual(answer.returncode, 5)
        self.assertIn(nowhere.encode(), answer.stderr)


class WithDaemon(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix='warmtier-ctl.')
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        store = os.path.join(cls.directory, 'store')
        made = run('init', store, '--dimensions', str(DIMENSIONS), '--capacity', '4096')
        assert made.returncode == 0, made
        cls.daemon = Daemon(DAEMON, store=store)
        cls.addClassCleanup(cls.daemon.close)

    def ctl(self, *arguments, stdin=b'', code=0):
        answer = run('--socket', self.daemon.socket, *arguments, stdin=stdin)
        self.assertEqual(answer.returncode, code, (arguments, answer))
        if code != 0:
            self.assertEqual(answer.stdout, b'')
            self.assertTrue(answer.stderr.startswith(b'warmtierctl: '), answer.stderr)
        return answer.stdout if code == 0 else answer.stderr

    def test_a_socket_that_is_named_is_the_only_one_tried(self):
        runtime = tempfile.mkdtemp(prefix='warmtier-ctl.')
        self.addCleanup(shutil.rmtree, runtime)
        os.symlink(self.daemon.socket, os.path.join(runtime, 'warmtier.sock'))
        gone = os.path.join(runtime, 'gone')
        answer = run('count', '--timeout', '50', environment={'WARMTIER_SOCKET': gone, 'XDG_RUNTIME_DIR': runtime})
        self.assertEqual(answer.returncode, 5, answer)
        self.assertIn(gone.encode(), answer.stderr)
        if not os.path.exists('/run/warmtier/sock'):
            answer = run('count', environment={'WARMTIER_SOCKET': '', 'XDG_RUNTIME_DIR': runtime})
            self.assertEqual(answer.returncode, 0, answer)

    def embedding(self, first=1.0):
        return json.dumps([first] + [0.5] * (DIMENSIONS - 1)).encode()

    def put(self, *arguments, code=0, **more):
        return self.ctl('put', *arguments, '--embedding', '-', stdin=self.embedding(**more), code=code)

    def get(self, *arguments):
        return json.loads(self.ctl('get', *arguments, '--json'))

    def test_what_is_put_is_got(self):
        sequence = int(self.put('plain', '--content', 'the content', '--confidence', '0.5', '--activation', '-2', '--decay-rate', '0.25',
                                '--recall-count', '7', '--created', '5', '--last-access', '6'))
        self.assertEqual(self.get('plain'), {
            'id': 'plain', 'sequence': sequence, 'created_ns': 5, 'last_access_ns': 6, 'confidence': 0.5, 'activation': -2.0,
            'decay_rate': 0.25, 'recall_count': 7, 'embedding': [1.0] + [0.5] * (DIMENSIONS - 1), 'content': 'the content'})
        shown = self.ctl('get', 'plain').decode()
        for words in ('plain', 'the content', '11 bytes', '1970-01-01T00:00:00.000000005Z', str(sequence)):
            self.assertIn(words, shown)

    def test_absent_and_empty_content_are_different(self):
        self.put('absent')
        self.put('absent too', '--no-content')
        self.put('empty', '--content', '')
        self.assertIsNone(self.get('absent')['content'])
        self.assertIsNone(self.get('absent too')['content'])
        self.assertEqual(self.get('empty')['content'], '')
        self.assertEqual(self.ctl('get', 'empty', '--content-out', '-'), b'')
        self.assertIn(b'no content', self.ctl('get', 'absent', '--content-out', '-', code=1))

    def test_bytes_that_are_no_text_travel_unchanged(self):
        content = bytes(range(256)) * 400
        path = os.path.join(self.directory, 'content')
        with open(path, 'wb') as file:
            file.write(content)
        self.put('--id-hex', '00ff80', '--content-file', path)
        answer = self.get('--id-hex', '00ff80')
        self.assertEqual(base64.b64decode(answer['id_base64']), bytes.fromhex('00ff80'))
        self.assertNotIn('id', answer)
        self.assertEqual(self.get('--id-base64', answer['id_base64']), answer)
        self.assertEqual(base64.b64decode(answer['content_base64']), content)
        self.assertEqual(self.ctl('get', '--id-hex', '00FF80', '--content-out', '-'), content)
        out = os.path.join(self.directory, 'out')
        self.ctl('get', '--id-hex', '00ff80', '--content-out', out)
        with open(out, 'rb') as file:
            self.assertEqual(file.read(), content)
        for size in range(1, 7):
            self.ctl('put', 'base64', '--embedding', path_with(self.directory, self.embedding()), '--content-file', '-', stdin=b'\xff' * size)
            self.assertEqual(base64.b64decode(self.get('base64')['content_base64']), b'\xff' * size)

    def test_embeddings_may_be_raw(self):
        raw = struct.pack(f'<{DIMENSIONS}f', *(i * 0.1 for i in range(DIMENSIONS)))
        self.ctl('put', 'raw', '--embedding', '-', stdin=raw)
        self.assertEqual(self.ctl('get', 'raw', '--embedding-out', '-'), raw)

    def test_a_wrong_embedding_is_refused_with_the_reason(self):
        self.assertIn(b'8', self.ctl('put', 'wrong', '--embedding', '-', stdin=b'[1, 2]', code=1))
        self.assertIn(b'JSON', self.ctl('put', 'wrong', '--embedding', '-', stdin=b'[1, 2', code=1))
        self.assertIn(b'JSON', self.ctl('put', 'wrong', '--embedding', '-', stdin=b'["a"]', code=1))
        self.assertIn(b'JSON', self.ctl('put', 'wrong', '--embedding', '-', stdin=b'', code=1))
        huge = json.dumps([1e300] + [0] * (DIMENSIONS - 1)).encode()
        self.ctl('put', 'wrong', '--embedding', '-', stdin=huge, code=1)
        self.assertIn(b'/nonexistent', self.ctl('put', 'wrong', '--embedding', '/nonexistent', code=1))
        self.ctl('get', 'wrong', code=3)

    def test_conditions_exit_with_4(self):
        first = int(self.put('versions', '--if-absent'))
        self.assertIn(b'WARM_E_EXISTS', self.put('versions', '--if-absent', code=4))
        second = int(self.put('versions', '--if-sequence', str(first)))
        self.assertGreater(second, first)
        self.assertIn(b'WARM_E_CHANGED', self.put('versions', '--if-sequence', str(first), code=4))
        self.assertIn(b'WARM_E_CHANGED', self.ctl('rm', 'versions', '--if-sequence', str(first), code=4))
        removed = json.loads(self.ctl('rm', 'versions', '--if-sequence', str(second), '--json'))
        self.assertEqual(removed['id'], 'versions')
        self.assertGreater(removed['sequence'], second)

    def test_what_is_not_there_exits_with_3(self):
        self.assertIn(b'WARM_E_NOT_FOUND', self.ctl('get', 'nothing', code=3))
        self.assertIn(b'WARM_E_NOT_FOUND', self.ctl('rm', 'nothing', code=3))

    def test_a_terminal_gets_no_control_bytes_from_content(self):
        self.put('hostile\x1b]0;title\x07', '--content', 'a\x1b[31mred\x9b31m', code=0)
        shown = self.ctl('get', 'hostile\x1b]0;title\x07')
        self.assertNotIn(b'\x1b', shown)
        self.assertNotIn(b'\xc2\x9b', shown)

    def test_status_says_every_statistic(self):
        before = json.loads(self.ctl('status', '--json'))
        self.put('counted')
        status = json.loads(self.ctl('status', '--json'))
        self.assertEqual(status['puts'], before['puts'] + 1)
        self.assertEqual(status['dimensions'], DIMENSIONS)
        self.assertEqual(status['capacity'], 4096)
        self.assertIn(status['io_backend'], ('io_uring', 'threads'))
        header = os.path.join(os.path.dirname(__file__), '..', '..', 'include', 'warmtier', 'warmtier.h')
        with open(header) as file:
            struct_text = file.read().split('typedef struct warm_stats {')[1].split('}')[0]
        self.assertEqual(json.loads(self.ctl('stats', '--json'))['puts'], status['puts'])
        shown = self.ctl('status').decode().replace(' ', '_')
        for line in struct_text.splitlines():
            name = line.strip().split(';')[0].split(' ')[-1]
            if ';' in line and name != 'struct_bytes':
                self.assertIn(name, status)
                self.assertIn(name, shown)


class Completion(unittest.TestCase):
    def bash(self, *words):
        """What bash offers behind these words."""
        script = run('completion', 'bash').stdout.decode() + '''
          COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
          compopt() { :; }  # readline is not there
          _warmtierctl
          printf '%s\\n' "${COMPREPLY[@]}"'''
        answer = subprocess.run(['bash', '-euc', script, 'bash', 'warmtierctl', *words], capture_output=True, timeout=PATIENCE_S, text=True)
        self.assertEqual((answer.returncode, answer.stderr), (0, ''), words)
        return set(answer.stdout.split())

    def test_bash_offers_commands_options_and_values(self):
        self.assertEqual(self.bash('im'), {'import'})
        self.assertTrue(set(COMMANDS) <= self.bash(''))
        self.assertEqual(self.bash('--socket', '/x', 'st'), {'status', 'stats'})
        self.assertEqual(self.bash('import', '--emb'), {'--embeddings'})
        self.assertEqual(self.bash('--json', 'get', '--content'), {'--content-out'})
        self.assertEqual(self.bash('get', '--time'), {'--timeout'})
        self.assertEqual(self.bash('completion', ''), {'bash', 'zsh', 'fish'})
        self.assertEqual(self.bash('completion', 'z'), {'zsh'})
        self.assertEqual(self.bash('recall', '--metric', ''), {'cosine', 'dot', 'l2'})
        self.assertEqual(self.bash('export', '--with-content', 'a'), {'absent'})
        self.assertEqual(self.bash('put', '--confidence', ''), set())
        with tempfile.TemporaryDirectory() as directory:
            for name in ('one.npy', 'two.npy'):
                open(os.path.join(directory, name), 'w').close()
            self.assertEqual(self.bash('import', '--embeddings', directory + '/o'), {directory + '/one.npy'})
            self.assertEqual(self.bash('import', directory + '/t'), {directory + '/two.npy'})
            os.mkdir(os.path.join(directory, 'folder'))
            self.assertEqual(self.bash('init', directory + '/'), {directory + '/folder'})

    def test_zsh_and_fish_take_theirs(self):
        with tempfile.TemporaryDirectory() as directory:
            for shell in ('zsh', 'fish'):
                if shutil.which(shell) is None:
                    continue
                path = os.path.join(directory, shell)
                with open(path, 'wb') as file:
                    file.write(run('completion', shell).stdout)
                answer = subprocess.run([shell, '-n', path], capture_output=True, timeout=PATIENCE_S)
                self.assertEqual((answer.returncode, answer.stderr), (0, b''), shell)
            if shutil.which('fish'):
                def offers(line):
                    answer = subprocess.run(['fish', '-c', f'source {path}; complete -C "{line}"'], capture_output=True, timeout=PATIENCE_S,
                                            text=True, env=dict(os.environ, HOME=directory, XDG_CONFIG_HOME=directory))
                    return {words.split('\t')[0] for words in answer.stdout.splitlines()}
                self.assertEqual(offers('warmtierctl im'), {'import'})
                self.assertEqual(offers('warmtierctl import --embe'), {'--embeddings'})
                self.assertEqual(offers('warmtierctl completion b'), {'bash'})


def path_with(directory, content):
    path = os.path.join(directory, 'embedding')
    with open(path, 'wb') as file:
        file.write(content)
    return path


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
