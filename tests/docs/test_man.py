#!/usr/bin/env python3
"""libwarmtier(3) describes every exported call under all of its labels, and troff has nothing to say about the page.

usage: test_man.py PAGE SYMBOL-MAP
"""
import re
import shutil
import subprocess
import sys

LABELS = ('Returns', 'Lifetime', 'Threads', 'Blocks', 'Since')


def faults(page, exported):
    sections = {}
    for part in re.split(r'^\.SS ', page, flags=re.M)[1:]:
        name, text = part.split('\n', 1)
        sections[name] = re.split(r'^\.SH ', text, flags=re.M)[0]
    for name in sorted(exported - set(sections)):
        yield f'{name} has no section'
    for name in sorted(set(sections) - exported):
        yield f'{name} has a section but is not exported'
    for name, text in sections.items():
        for label in LABELS:
            if not re.search(rf'^\.B {label}\n\S', text, flags=re.M):
                yield f'{name}: nothing under {label}'
        if not re.search(r'^\.PP\n\S.{10}', text, flags=re.M):
            yield f'{name}: nothing is said about what it does'
        if not re.search(rf'^\.B .*\b{name}\(', text, flags=re.M):
            yield f'{name}: its declaration is missing'


def main():
    page_path, map_path = sys.argv[1:]
    with open(page_path, encoding='utf-8') as file:
        page = file.read()
    with open(map_path, encoding='utf-8') as file:
        exported = set(re.findall(r'\b(warm_\w+)\s*;', file.read()))
    found = list(faults(page, exported))
    if not exported:
        found.append('the symbol map names no call')
    if groff := shutil.which('groff'):
        said = subprocess.run([groff, '-man', '-Tutf8', '-ww', page_path], capture_output=True, text=True, check=False)
        found += [line for line in said.stderr.splitlines()]
        found += [f'{name} is not in the printed page' for name in sorted(exported) if name not in said.stdout]
    for fault in found:
        print(fault)

    # Each kind of fault is seen.
    name = min(exported)
    for broken, what in ((page.replace(f'.SS {name}\n', '.PP\n'), f'{name} has no section'),
                         (page.replace('.B Returns\n', '.PP\n'), f'{name}: nothing under Returns'),
                         (page + '.SS warm_gone\n', 'warm_gone has a section but is not exported')):
        if what not in faults(broken, exported):
            print(f'not seen: {what}')
            return 1
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
