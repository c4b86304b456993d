#!/usr/bin/env python3
"""What pages for operators say is what the code does: defaults and ranges of every setting, flags, every number, every error.

usage: test_house.py ROOT WARMTIERD
"""
import os
import re
import subprocess
import sys
import tempfile

ROOT, DAEMON = sys.argv[1:3]
failures = []


def text_of(*path):
    with open(os.path.join(ROOT, *path), encoding='utf-8') as file:
        return file.read()


def plain(troff):
    for escape, character in (('\\(aq', "'"), ('\\(dq', '"'), ('\\-', '-'), ('\\fR', '')):
        troff = troff.replace(escape, character)
    return troff


def complain(what):
    failures.append(what)


def settings_of_code():
    """{section: {key: default}}; a key that nobody set and that has no default is None."""
    printed = subprocess.run([DAEMON, '--print-config'], capture_output=True, text=True, check=True).stdout
    sections, section = {}, None
    for line in printed.splitlines():
        if match := re.fullmatch(r'\[(\w+)\]', line):
            section = sections.setdefault(match[1], {})
        elif match := re.fullmatch(r'#(\w+) =', line):
            section[match[1]] = None
        elif match := re.fullmatch(r'(\w+) = (.*)', line):
            section[match[1]] = match[2]
    return sections


def refusal(text):
    """What the daemon says of a file."""
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
        file.write(text)
        file.flush()
        answer = subprocess.run([DAEMON, '--config', file.name, '--print-config'], capture_output=True, text=True, check=False)
        return answer.stderr if answer.returncode == 2 else None


def range_of(section, key):
    match = re.search(r'(\d+) to (\d+) are possible', refusal(f'[{section}]\n{key} = -1\n') or '')
    return f'{match[1]} to {match[2]}' if match else None


def check_settings(settings):
    page, section, said = plain(text_of('docs', 'man', 'warmtierd.conf.5')), None, {}
    lines = page.splitlines()
    for before, line in zip([''] + lines, lines):
        if match := re.fullmatch(r'\.SH \[(\w+)\]', line):
            section = match[1]
        elif match := re.fullmatch(r'\.BR? "?([a-z_]+)(?: "? ?= (.*?)"?)?', line.replace(' "', ' ').rstrip('"')):
            if section and before == '.TP':
                said.setdefault(section, {}).setdefault(match[1], match[2])
        elif line.startswith('.SH'):
            section = None
    for section in settings:
        for key in settings[section].keys() | said.get(section, {}).keys():
            if key not in settings[section] or key not in said.get(section, {}):
                complain(f'warmtierd.conf(5) and the code differ about the key {section}.{key}')
                continue
            default, words = settings[section][key], said[section][key]
            limits = range_of(section, key)
            if default is None:
                continue
            if words is None or not (words + ' ').startswith(default + ' '):
                complain(f'warmtierd.conf(5): {section}.{key} has the default {default}, said is {words}')
            elif limits and f'({limits})' not in words:
                complain(f'warmtierd.conf(5): {section}.{key} goes from {limits}, said is {words}')


def check_example(settings):
    """The file that is installed: each line that is commented out says what holds without it."""
    section = None
    for line in text_of('systemd', 'warmtierd.conf').splitlines():
        if match := re.fullmatch(r'\[([\w.]+)\]', line):
            section = match[1]
        elif match := re.fullmatch(r'#(\w+) = (.*)', line):
            default = settings.get(section, {}).get(match[1], 'no such key')
            if default is not None and default.replace("'", '"') != match[2]:
                complain(f'systemd/warmtierd.conf: {section}.{match[1]} = {match[2]}, the code says {default}')


def check_flags():
    flags = set(re.findall(r'^  (--[a-z-]+)', subprocess.run([DAEMON, '--help'], capture_output=True, text=True, check=True).stdout, flags=re.M))
    said = set(re.findall(r'^\.BI? "?(--[a-z-]+)', plain(text_of('docs', 'man', 'warmtierd.8')), flags=re.M))
    for flag in sorted(flags ^ said):
        complain(f'warmtierd(8) and --help differ about {flag}')


def first_column(text, heading):
    part = text.split(f'\n## {heading}\n', 1)[1].split('\n## ', 1)[0]
    return re.findall(r'^\| `(\w+)` \|', part, flags=re.M)


def check_numbers_and_errors():
    header, page = text_of('include', 'warmtier', 'warmtier.h'), text_of('docs', 'operations.md')
    struct = re.search(r'typedef struct warm_stats \{(.*?)\} warm_stats;', header, flags=re.S)[1]
    fields = [name for name in re.findall(r'^\s*uint\d+_t (\w+);', struct, flags=re.M) if name != 'struct_bytes' and not name.startswith('reserved')]
    served = re.findall(r'^    \{"(\w+)", "warmtier_', text_of('daemon', 'control', 'numbers.cpp'), flags=re.M)
    said = first_column(page, 'The numbers')
    for name in fields:
        if name not in said:
            complain(f'docs/operations.md, "The numbers": nothing about {name}: add a row')
        if name not in served and name != 'io_backend':
            complain(f'daemon/control/numbers.cpp does not serve {name}: add a row to kNumbers')
    for name in set(said) - set(fields) - set(served) - {'fragmentation_ratio'}:
        complain(f'docs/operations.md names the number {name}, which is not there')
    for name in set(served) - set(said):
        complain(f'docs/operations.md, "The numbers": nothing about {name}: add a row')
    if len(fields) < 20 or len(served) < 20:
        complain(f'too few were found: {len(fields)} fields, {len(served)} served')
    codes = set(re.findall(r'^#define (WARM_E_\w+)', header, flags=re.M))
    for name in sorted(codes ^ set(first_column(page, 'The errors'))):
        complain(f'docs/operations.md and the header differ about {name}')


def check_knobs(settings):
    part = text_of('docs', 'operations.md').split('\n## Knobs\n', 1)[1].split('\n## ', 1)[0]
    keys = {key for section in ('store', 'daemon', 'access') for key in settings[section]}
    for row in re.findall(r'^\| (`.*?) \|', part, flags=re.M):
        for name in re.findall(r'`(\w+)`', row):
            if name not in keys:
                complain(f'docs/operations.md, "Knobs": there is no key {name}')


def main():
    settings = settings_of_code()
    if sum(len(keys) for keys in settings.values()) < 15 or range_of('store', 'dimensions') is None:
        complain('the daemon does not say its settings')
    check_settings(settings)
    check_example(settings)
    check_flags()
    check_numbers_and_errors()
    check_knobs(settings)
    for failure in failures:
        print(failure)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
