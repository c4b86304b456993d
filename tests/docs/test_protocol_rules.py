#!/usr/bin/env python3
"""docs/protocol.md names every rule that a test build can leave out, and no other; its rules are numbered without a gap. The table
of tests/interleave/README.md has every one of them and every interleaving, each in a row of its own, and no test that is not there.

usage: test_protocol_rules.py ROOT
"""

import collections
import os
import re
import sys

FOLDERS = ('base', 'layout', 'libclient', 'daemon')


def main():
    root = sys.argv[1]
    in_code = set()
    for folder in FOLDERS:
        for place, _, names in os.walk(os.path.join(root, folder)):
            for name in names:
                if name.endswith(('.cpp', '.hpp')):
                    with open(os.path.join(place, name), encoding='utf-8') as file:
                        in_code.update(re.findall(r'WARM_RULE\("([^"]+)"\)', file.read()))
    with open(os.path.join(root, 'docs', 'protocol.md'), encoding='utf-8') as file:
        text = file.read()
    failed = 0
    in_text = set(re.findall(r'\[((?:client|store|daemon|session|io)\.[a-z0-9_]+)\]', text))
    for name in sorted(in_code ^ in_text):
        print(f'{name}: in the {"code" if name in in_code else "document"} only')
        failed = 1

    numbers = collections.defaultdict(list)
    for letter, number in re.findall(r'^- \*\*([A-Z])(\d+)\*\* ', text, flags=re.M):
        numbers[letter].append(int(number))
    for letter, found in numbers.items():
        if found != list(range(1, len(found) + 1)):
            print(f'rules {letter} are numbered {found}')
            failed = 1
    for letter, number in re.findall(r'(?<![A-Za-z0-9])([A-Z])(\d+)(?![A-Za-z0-9])', text):
        if letter in numbers and int(number) not in numbers[letter]:
            print(f'{letter}{number} is named and not there')
            failed = 1
    return failed | check_interleavings(root, in_code)


def check_interleavings(root, in_code):
    folder = os.path.join(root, 'tests', 'interleave')
    with open(os.path.join(folder, 'README.md'), encoding='utf-8') as file:
        readme = file.read()
    played = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith('.cpp'):
            with open(os.path.join(folder, name), encoding='utf-8') as file:
                for suite, test, rule in re.findall(r'^INTERLEAVING\((\w+), (\w+),[^"]*"([^"]+)"\)', file.read(), flags=re.M):
                    played[suite, test] = rule
    rows = set()
    for row in re.findall(r'^\| (.*) \|$', readme, flags=re.M):
        cells = row.split(' | ')
        if len(cells) == 3:
            for suite, tests in re.findall(r'(\w+) ((?:`\w+`(?:, )?)+)', cells[1]):
                rows.update((suite, test, cells[2]) for test in re.findall(r'`(\w+)`', tests))
    failed = 0
    for rule in sorted(in_code):
        if not re.search(rf'(?<![a-z.]){re.escape(rule)}(?![a-z_])', readme):
            print(f'tests/interleave/README.md does not say which test is about {rule}')
            failed = 1
    for (suite, test), rule in sorted(played.items()):
        if not any(row[:2] == (suite, test) and (row[2] == rule or rule.startswith('test.')) for row in rows):
            print(f'tests/interleave/README.md has no row for {suite} {test}, which leaves out {rule}')
            failed = 1
    suites = {suite for suite, _ in played}
    for suite, test, _ in sorted(rows):
        if suite in suites and (suite, test) not in played:
            print(f'tests/interleave/README.md: {suite} {test} is not there')
            failed = 1
    return failed


if __name__ == '__main__':
    sys.exit(main())
