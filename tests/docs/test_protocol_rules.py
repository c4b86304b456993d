#!/usr/bin/env python3
"""docs/protocol.md names every rule that a test build can leave out, and no other; its rules are numbered without a gap.

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
    return failed


if __name__ == '__main__':
    sys.exit(main())
