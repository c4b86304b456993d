#!/usr/bin/env python3
"""The service manager's files as they are installed: without a complaint of systemd, little exposed, and with one meaning.

usage: test_units.py WARMTIERD UNIT..
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

DAEMON, UNITS = os.path.abspath(sys.argv[1]), sys.argv[2:]
EXPOSURE_MAX = 2.0
HAS_SYSTEMD = shutil.which('systemd-analyze') is not None


def text_of(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def settings_of(path):
    lines = [line for line in text_of(path).splitlines() if '=' in line and not line.startswith('#')]
    return [tuple(line.split('=', 1)) for line in lines]


class Units(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='warmtier-units.')
        self.addCleanup(shutil.rmtree, self.directory)
        self.copies = []
        for unit in UNITS:
            copy = os.path.join(self.directory, os.path.basename(unit))
            with open(copy, 'w', encoding='utf-8') as file:
                # What is verified is the file as it is, but for the place of the program, which is not installed yet.
                file.write(re.sub(r'^ExecStart=\S+', 'ExecStart=' + DAEMON, text_of(unit), flags=re.M))
            self.copies.append(copy)
        self.services = [copy for copy in self.copies if copy.endswith('.service')]

    def analyze(self, *arguments):
        return subprocess.run(['systemd-analyze', *arguments], capture_output=True, text=True, timeout=60,
                              env=dict(os.environ, SYSTEMD_UNIT_PATH=self.directory + ':'))

    def test_nothing_is_left_to_fill_in(self):
        self.assertEqual(len(UNITS), 6)
        for unit in UNITS:
            self.assertNotRegex(text_of(unit), r'@[A-Z_]+@', unit)

    @unittest.skipUnless(HAS_SYSTEMD, 'no systemd-analyze here')
    def test_systemd_has_no_complaint(self):
        answer = self.analyze('verify', '--man=no', '--recursive-errors=no', *self.copies)
        self.assertEqual((answer.returncode, answer.stdout + answer.stderr), (0, ''))

    @unittest.skipUnless(HAS_SYSTEMD, 'no systemd-analyze here')
    def test_systemd_complains_of_a_planted_mistake(self):
        with open(self.services[0], 'a', encoding='utf-8') as file:
            file.write('\n[Service]\nProtectSystem=perhaps\n')
        answer = self.analyze('verify', '--man=no', '--recursive-errors=no', *self.copies)
        self.assertIn('perhaps', answer.stdout + answer.stderr)

    @unittest.skipUnless(HAS_SYSTEMD, 'no systemd-analyze here')
    def test_the_exposure_is_2_0_at_most(self):
        for service in self.services:
            answer = self.analyze('security', '--offline=true', '--no-pager', f'--threshold={EXPOSURE_MAX * 10:.0f}', service)
            exposure = re.search(r'Overall exposure level for \S+: ([0-9.]+)', answer.stdout + answer.stderr)
            self.assertIsNotNone(exposure, answer)
            self.assertLessEqual(float(exposure[1]), EXPOSURE_MAX, answer.stdout)
            self.assertEqual(answer.returncode, 0, answer.stdout)

    def test_template_and_plain_unit_differ_in_places_only(self):
        plain = {os.path.basename(unit): settings_of(unit) for unit in UNITS}
        for name, settings in plain.items():
            if '@' in name:
                continue
            template = plain[name.replace('.', '@.', 1)]
            self.assertEqual([key for key, _ in settings], [key for key, _ in template], name)
            for (key, one), (_, other) in zip(settings, template):
                if one != other:
                    self.assertIn('%i', other, f'{name}: {key}')

    def test_no_setting_is_given_twice(self):
        lists = {'SystemCallFilter'}  # what follows is added
        for unit in UNITS:
            keys = [key for key, _ in settings_of(unit) if key not in lists]
            self.assertEqual(sorted(set(keys)), sorted(keys), unit)

    def test_who_reads_the_numbers_need_not_be_in_the_group_that_may_write(self):
        groups = {os.path.basename(unit): dict(settings_of(unit)).get('SocketGroup') for unit in UNITS if unit.endswith('.socket')}
        self.assertEqual(groups, {'warmtierd.socket': 'warmtier', 'warmtierd@.socket': 'warmtier',
                                  'warmtierd-metrics.socket': 'warmtier-metrics', 'warmtierd-metrics@.socket': 'warmtier-metrics'})

    def test_every_line_of_hardening_has_its_reason(self):
        for unit in (u for u in UNITS if u.endswith('.service')):
            hardening = text_of(unit).split('# ----')[1]
            why = False
            for line in hardening.splitlines()[1:]:
                if line.startswith('#'):
                    why = True
                elif line == '':
                    why = False
                else:
                    self.assertTrue(why, f'{unit}: {line}')


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
