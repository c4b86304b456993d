#!/usr/bin/env python3
"""warmtierctl import and export: what goes out comes in again, and a line that cannot is named.

usage: test_ctl_transfer.py WARMTIERCTL WARMTIERD
"""
import base64
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from warm_daemon import PATIENCE_S, Daemon  # noqa: E402

CTL, DAEMON = sys.argv[1:3]
DIMENSIONS = 4


def npy(rows, dimensions=DIMENSIONS, version=1, dictionary=None):
    """An array of 32-bit floats as NumPy writes it."""
    text = dictionary or "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }" % (len(rows), dimensions)
    prefix = 10 if version == 1 else 12
    text = text.ljust(-(prefix + len(text) + 1) % 64 + len(text)) + '\n'
    return (b'\x93NUMPY' + bytes([version, 0]) + struct.pack('<H' if version == 1 else '<I', len(text)) + text.encode() +
            b''.join(struct.pack(f'<{dimensions}f', *row) for row in rows))


def line(identity, **fields):
    return json.dumps({'id': identity, 'embedding': [1, 2, 3, 4], **fields}) + '\n'


class Transfer(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon(DAEMON, dimensions=DIMENSIONS, capacity=8192)
        self.addCleanup(self.daemon.close)
        directory = tempfile.TemporaryDirectory(prefix='warmtier-transfer.')
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def path(self, name, content=None):
        path = os.path.join(self.directory, name)
        if content is not None:
            with open(path, 'wb') as file:
                file.write(content if isinstance(content, bytes) else content.encode())
        return path

    def bytes_of(self, name):
        with open(self.path(name), 'rb') as file:
            return file.read()

    def ctl(self, *arguments, stdin=b'', code=0, socket=None):
        answer = subprocess.run([CTL, '--socket', socket or self.daemon.socket, *arguments], capture_output=True, timeout=PATIENCE_S,
                                input=stdin if isinstance(stdin, bytes) else stdin.encode())
        self.assertEqual(answer.returncode, code, (arguments, answer))
        return answer

    def get(self, identity):
        return json.loads(self.ctl('get', identity, '--json').stdout)

    def imported(self, *arguments, **more):
        answer = self.ctl('import', '--json', *arguments, **more)
        return json.loads(answer.stdout), answer.stderr.decode()

    def test_lines_are_imported_with_everything_they_say(self):
        lines = (line('plain', content='text', confidence=0.25, activation=-1.5, decay_rate=0.125, recall_count=3, created_ns=5,
                      last_access_ns=6) +
                 line('empty', content='') + line('absent', content=None) + line('not said') + '\n  \n' +
                 json.dumps({'id_base64': 'AP8=', 'embedding': [0, 0, 0, 0], 'content_base64': 'gIE='}))
        summary, said = self.imported(stdin=lines)
        self.assertEqual((summary['imported'], summary['kept'], summary['refused'], said), (5, 0, 0, ''))
        plain = self.get('plain')
        plain.pop('sequence')
        self.assertEqual(plain, {'id': 'plain', 'created_ns': 5, 'last_access_ns': 6, 'confidence': 0.25, 'activation': -1.5,
                                 'decay_rate': 0.125, 'recall_count': 3, 'embedding': [1, 2, 3, 4], 'content': 'text'})
        self.assertEqual(self.get('empty')['content'], '')
        self.assertIsNone(self.get('absent')['content'])
        self.assertIsNone(self.get('not said')['content'])
        self.assertEqual(self.ctl('get', '--id-hex', '00ff', '--content-out', '-').stdout, b'\x80\x81')

    def test_a_bad_line_is_named_and_the_others_go_on(self):
        bad = ['nonsense', '[]', '{"id":"no embedding"}', line('few')[:-2].replace('[1, 2, 3, 4]', '[1, 2]') + '}',
               '{"id":"n","embedding":[NaN,0,0,0]}', '{"id":"i","embedding":[1e39,0,0,0]}', '{"id":"","embedding":[0,0,0,0]}',
               json.dumps({'id': 'x' * 1025, 'embedding': [0] * 4}), '{"id":"t","embedding":[0,0,0,0],"tags":1}']
        reasons = ['JSON', 'object', 'no embedding', '2 numbers', 'NaN and infinity', '1e39', '0 bytes', '1025 bytes', '"tags"']
        lines = ''.join(f'{line(f"good {i}")}{text}\n' for i, text in enumerate(bad)) + line('last')
        path = self.path('lines', lines)
        summary, said = self.imported(path, code=6)
        self.assertEqual((summary['imported'], summary['refused']), (len(bad) + 1, len(bad)))
        for i, (reason, shown) in enumerate(zip(reasons, said.splitlines())):
            self.assertTrue(shown.startswith(f'warmtierctl: {path}:{2 * i + 2}: '), shown)
            self.assertIn(reason, shown)
        self.assertEqual(len(said.splitlines()), len(bad))
        self.assertEqual(self.get('last')['embedding'], [1, 2, 3, 4])
        self.assertIn(b'9 lines refused', self.ctl('import', path, code=6).stdout)

    def test_strict_stops_at_the_first_bad_line(self):
        summary, said = self.imported('--strict', code=1, stdin=line('before') + 'nonsense\n' + line('after'))
        self.assertEqual((summary['imported'], summary['refused']), (1, 1))
        self.assertIn('standard input:2: ', said)
        self.get('before')
        self.ctl('get', 'after', code=3)

    def test_records_that_are_there_may_stay(self):
        self.imported(stdin=line('one', content='old'))
        summary, _ = self.imported('--if-absent', stdin=line('one', content='new') + line('two'))
        self.assertEqual((summary['imported'], summary['kept']), (1, 1))
        self.assertEqual(self.get('one')['content'], 'old')
        self.imported(stdin=line('one', content='new'))
        self.assertEqual(self.get('one')['content'], 'new')

    def test_unknown_fields_are_passed_over_when_asked(self):
        self.assertEqual(self.imported('--ignore-unknown', stdin=line('x', tags={'a': [1]}))[0]['imported'], 1)

    def test_embeddings_come_from_a_npy_of_each_version(self):
        rows = [[i + 0.1, -0.0, 1e-45, 3.4e38] for i in range(3)]
        lines = ''.join(json.dumps({'id': str(i)}) + '\n' for i in range(3))
        for version in (1, 2, 3):
            summary, _ = self.imported('--embeddings', self.path('rows.npy', npy(rows, version=version)), stdin=lines)
            self.assertEqual(summary['imported'], 3)
            for i, row in enumerate(rows):
                self.assertEqual(self.ctl('get', str(i), '--embedding-out', '-').stdout, struct.pack('<4f', *row))

    def test_a_row_belongs_to_its_line_also_behind_a_bad_one(self):
        path = self.path('rows.npy', npy([[i] * 4 for i in range(4)]))
        summary, _ = self.imported('--embeddings', path, code=6, stdin='{"id":"a"}\nnonsense\n\n' + line('both') + '{"id":"d"}\n')
        self.assertEqual((summary['imported'], summary['refused']), (2, 2))
        self.assertEqual(self.get('d')['embedding'], [3] * 4)

    def test_rows_and_lines_are_as_many(self):
        path = self.path('rows.npy', npy([[0] * 4, [1] * 4]))
        _, said = self.imported('--embeddings', path, code=1, stdin='{"id":"a"}\n')
        self.assertIn('has 2 rows', said)
        _, said = self.imported('--embeddings', path, code=6, stdin='{"id":"a"}\n{"id":"b"}\n{"id":"c"}\n')
        self.assertIn('standard input:3: ', said)
        self.assertIn('there are 2', said)

    def test_an_array_that_cannot_be_rows_is_refused_with_the_reason(self):
        for content, reason in ((b'PK\x03\x04 something else', 'no .npy'), (npy([], version=4), 'version 4.0'),
                                (npy([[0] * 5], dimensions=5), '5 numbers'), (npy([[0] * 4])[:-1], 'row 0'),
                                (npy([], dictionary="{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4), }"), 'astype'),
                                (npy([], dictionary="{'descr': '<f4', 'fortran_order': True, 'shape': (0, 4), }"), 'C order'),
                                (npy([], dictionary="{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"), 'reshape')):
            answer = self.ctl('import', '--embeddings', self.path('wrong.npy', content), stdin='{"id":"a"}\n', code=1)
            self.assertIn(reason, answer.stderr.decode())
        answer = self.ctl('import', '--embeddings', self.path('nan.npy', npy([[0, 0, float('nan'), 0]])), stdin='{"id":"a"}\n', code=6)
        self.assertIn('standard input:1: number 2 of its embedding is nan', answer.stderr.decode())
        self.ctl('get', 'a', code=3)

    def test_a_full_store_stops_it_and_says_where(self):
        with Daemon(DAEMON, dimensions=DIMENSIONS, capacity=1024) as small:
            lines = ''.join(line(str(i)) for i in range(2000))
            answer = self.ctl('import', '--json', stdin=lines, code=1, socket=small.socket)
            self.assertEqual(json.loads(answer.stdout)['imported'], 1024)
            self.assertIn(b'WARM_E_FULL', answer.stderr)
            self.assertIn(b'stopped at standard input:1025', answer.stderr)

    def fill(self):
        """Records with any bytes in ids and contents, any finite floats, any times."""
        random.seed(1)
        edges = [0.0, -0.0, 1e-45, -1e-45, 1.17549435e-38, 3.40282347e38, -3.40282347e38, 0.1, 1 / 3]
        number = lambda: random.choice(edges) if random.random() < 0.5 else struct.unpack('<f', struct.pack('<f', random.uniform(-9, 9)))[0]
        identities = {b'plain', 'Grüße ✓'.encode(), b'"quoted" \\ \n\t\x00\x1b', bytes(range(256)), b'\xff', b'\xed\xa0\x80', b'x' * 1024}
        identities |= {random.randbytes(random.randint(1, 40)) for _ in range(300)}
        contents = [None, b'', b'text', 'ünï ✓ \x00\x7f\u2028'.encode(), bytes(range(256)) * 9, b'\x80', random.randbytes(100_000)]
        lines = ''
        for i, identity in enumerate(sorted(identities)):
            record = {'id_base64': base64.b64encode(identity).decode(), 'embedding': [number() for _ in range(DIMENSIONS)],
                      'confidence': number(), 'activation': number(), 'decay_rate': number(),
                      'recall_count': random.choice((0, 1, 2**32 - 1)), 'created_ns': random.choice((0, 1, 2**63, 2**64 - 1)),
                      'last_access_ns': random.choice((0, 7, 2**64 - 1))}
            content = contents[i % len(contents)]
            if content is not None:
                record['content_base64'] = base64.b64encode(content).decode()
            lines += json.dumps(record) + '\n'
        self.assertEqual(self.imported(stdin=lines)[0]['imported'], len(identities))
        return len(identities)

    def exported(self, *arguments, socket=None):
        """The lines of an export without the sequences, which are the store's own, in an order of their own."""
        lines = [json.loads(text) for text in self.ctl('export', *arguments, socket=socket).stdout.splitlines()]
        for record in lines:
            record.pop('sequence')
        # Floats as text: 0.0 and -0.0 are equal to each other, and are not the same.
        return sorted(json.dumps(record, sort_keys=True) for record in lines)

    def test_what_is_exported_is_imported_to_the_same_bytes(self):
        count = self.fill()
        before = self.exported()
        self.assertEqual(len(before), count)
        for how in ('embedded', 'beside'):
            beside = ['--embeddings', self.path('rows.npy')] if how == 'beside' else []
            lines = self.ctl('export', *beside).stdout
            with Daemon(DAEMON, dimensions=DIMENSIONS, capacity=8192) as other:
                summary = json.loads(self.ctl('import', '--json', *beside, stdin=lines, socket=other.socket).stdout)
                self.assertEqual((summary['imported'], summary['refused']), (count, 0))
                self.assertEqual(self.exported(socket=other.socket), before, how)

    def test_get_and_export_give_a_record_the_same_bytes(self):
        self.fill()
        lines = self.ctl('export').stdout.splitlines()
        for text in random.sample(lines, 30):
            record = json.loads(text)
            identity = base64.b64decode(record['id_base64']) if 'id_base64' in record else record['id'].encode()
            self.assertEqual(self.ctl('get', '--json', '--id-hex', identity.hex()).stdout.rstrip(b'\n'), text)

    def test_numpy_reads_the_rows_and_writes_rows_that_are_read(self):
        try:
            python = next(p for p in (sys.executable, '/usr/bin/python3')
                          if subprocess.run([p, '-c', 'import numpy'], capture_output=True).returncode == 0)
        except StopIteration:
            self.skipTest('no python3 has NumPy')
        self.fill()
        self.ctl('export', self.path('lines'), '--embeddings', self.path('rows.npy'))
        script = ('import numpy, sys; a = numpy.load(sys.argv[1]); assert a.dtype == numpy.float32 and a.shape[1] == 4; '
                  'numpy.save(sys.argv[2], a); numpy.lib.format.write_array(open(sys.argv[3], "wb"), a, version=(2, 0)); '
                  'sys.stdout.buffer.write(a.tobytes())')
        names = [self.path(name) for name in ('rows.npy', 'one.npy', 'two.npy')]
        rows = subprocess.run([python, '-c', script, *names], capture_output=True, check=True).stdout
        before = self.exported()
        lines = [json.loads(text) for text in self.bytes_of('lines').splitlines()]
        self.assertEqual(len(rows), 16 * len(lines))
        identity = base64.b64decode(lines[-1]['id_base64']) if 'id_base64' in lines[-1] else lines[-1]['id'].encode()
        self.assertEqual(self.ctl('get', '--id-hex', identity.hex(), '--embedding-out', '-').stdout, rows[-16:])
        for name in names[1:]:
            self.ctl('import', self.path('lines'), '--embeddings', name)
            self.assertEqual(self.exported(), before)

    def test_an_export_takes_what_the_filter_lets_through(self):
        self.imported(stdin=''.join(line(f'{"ab"[i % 2]}:{i}', confidence=i / 10, created_ns=i * 10**9, **({'content': 'c'} if i % 3 else {}))
                                    for i in range(10)))
        names = lambda *arguments: {json.loads(text)['id'] for text in self.ctl('export', *arguments).stdout.splitlines()}
        self.assertEqual(names('--prefix', 'a:'), {'a:0', 'a:2', 'a:4', 'a:6', 'a:8'})
        self.assertEqual(names('--confidence', '0.25..0.5'), {'b:3', 'a:4', 'b:5'})
        self.assertEqual(names('--confidence', '0.75..'), {'a:8', 'b:9'})
        self.assertEqual(names('--confidence', '..0.15'), {'a:0', 'b:1'})
        self.assertEqual(names('--created', '1970-01-01T00:00:02Z..1970-01-01T00:00:03.000000000Z'), {'a:2', 'b:3'})
        self.assertEqual(names('--created', '5000000000'), {'b:5'})
        self.assertEqual(names('--created', '1970-01-01', '--prefix', 'b'), {'b:1', 'b:3', 'b:5', 'b:7', 'b:9'})
        self.assertEqual(names('--created', '..1970-01-01', '--prefix', 'b'), {'b:1', 'b:3', 'b:5', 'b:7', 'b:9'})
        self.assertEqual(names('--created', '1970-01-02..'), set())
        self.assertEqual(names('--with-content', 'absent'), {'a:0', 'b:3', 'a:6', 'b:9'})
        self.assertEqual(names('--with-content', 'present', '--prefix', 'b'), {'b:1', 'b:5', 'b:7'})
        self.assertEqual(names('--content-bytes', '1', '--prefix', 'nothing'), set())
        self.assertEqual(self.ctl('count', '--prefix', 'a:').stdout, b'5\n')
        self.assertEqual(json.loads(self.ctl('count', '--json').stdout), {'records': 10})
        for wrong in ('5..1', 'x', '1..x', '...', 'nan', '1e99..'):
            self.assertIn(b'--confidence', self.ctl('count', '--confidence', wrong, code=2).stderr)
        self.assertIn(b'2024-01-31T12:00:00Z', self.ctl('count', '--created', 'yesterday', code=2).stderr)

    def test_a_list_names_every_record_without_its_embedding(self):
        self.imported(stdin=line('one', content='four', created_ns=10**9) + line('two\x1b', created_ns=2 * 10**9))
        listed = {r['id']: r for r in map(json.loads, self.ctl('list', '--json').stdout.splitlines())}
        self.assertEqual(set(listed), {'one', 'two\x1b'})
        self.assertEqual((listed['one']['content_bytes'], listed['two\x1b']['content_bytes']), (4, None))
        self.assertNotIn('embedding', listed['one'])
        shown = self.ctl('list').stdout.decode()
        self.assertEqual({shown_line.split()[-1] for shown_line in shown.splitlines()}, {'one', 'two\\x1b'})
        self.assertIn('1970-01-01T00:00:01.000000000Z              4  one', shown)
        self.assertEqual(len(self.ctl('list', '--limit', '1').stdout.splitlines()), 1)

    def test_an_export_that_cannot_be_written_fails(self):
        self.imported(stdin=line('one'))
        self.assertIn(b'/nonexistent', self.ctl('export', '/nonexistent/lines', code=1).stderr)
        self.assertIn(b'/dev/full', self.ctl('export', '/dev/full', code=1).stderr)
        self.assertIn(b'not to a pipe', self.ctl('export', '--embeddings', '/dev/stdout', code=1).stderr)

    def test_of_two_lines_with_one_id_the_later_one_stays(self):
        lines = ''.join(line('same', content=str(i)) for i in range(1000))
        self.assertEqual(self.imported(stdin=lines)[0]['imported'], 1000)
        self.assertEqual(self.get('same')['content'], '999')

    def test_content_above_the_daemons_cap_is_named(self):
        with Daemon(DAEMON, dimensions=DIMENSIONS, capacity=1024, configuration='[store]\ncontent_bytes_max = 5000\n') as capped:
            answer = self.ctl('import', stdin=line('big', content='c' * 5001) + line('fits', content='c' * 5000), code=6, socket=capped.socket)
            self.assertIn(b'standard input:1: its content has 5001 bytes; the daemon takes 5000 at most', answer.stderr)

    def test_no_bar_in_a_pipe_and_nothing_when_quiet(self):
        answer = self.ctl('import', '--quiet', stdin=line('a'))
        self.assertEqual((answer.stdout, answer.stderr), (b'', b''))
        self.assertEqual(self.ctl('import', stdin=line('a')).stderr, b'')


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
