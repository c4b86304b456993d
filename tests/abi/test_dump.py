#!/usr/bin/env python3
"""What a compiled program relies on: names and versions of functions, their parameters, offsets and sizes in every public struct,
values of every constant. From the debug information of the library and the header; compared with the file in the tree.

usage: test_dump.py LIBRARY HEADER FILE [--update]
"""
import difflib
import re
import subprocess
import sys
import xml.etree.ElementTree as xml


def load(library, header_directory):
    text = subprocess.check_output(['abidw', '--headers-dir', header_directory, '--drop-private-types', '--no-show-locs',
                                    '--no-corpus-path', '--no-comp-dir-path', library])
    return xml.fromstring(text)


class Types:
    def __init__(self, root):
        self.by_id = {e.get('id'): e for e in root.iter() if e.get('id') and e.tag != 'subrange'}
        self.public = {}

    def name(self, number):
        element = self.by_id[number]
        if element.tag == 'pointer-type-def':
            return self.name(element.get('type-id')) + '*'
        if element.tag == 'qualified-type-def':
            return self.name(element.get('type-id')) + (' const' if element.get('const') == 'yes' else '')
        if element.tag == 'array-type-def':
            return self.name(element.get('type-id')) + ''.join(f'[{part.get("length")}]' for part in element.iter('subrange'))
        return element.get('name')


def dump(root, header):
    types = Types(root)
    lines = []
    for function in root.iter('function-decl'):
        symbol = function.get('elf-symbol-id')
        if symbol is None or not symbol.startswith('warm_'):
            continue
        parameters = ', '.join(f'{types.name(p.get("type-id"))} {p.get("name")}' for p in function.findall('parameter'))
        lines.append(f'function {symbol}: {types.name(function.find("return").get("type-id"))} ({parameters})')
    for struct in root.iter('class-decl'):
        name = struct.get('name')
        if not name.startswith('warm_') or struct.get('size-in-bits') is None:
            continue
        lines.append(f'struct {name}: {int(struct.get("size-in-bits")) // 8} bytes')
        for member in struct.findall('data-member'):
            variable = member.find('var-decl')
            lines.append(f'struct {name} at {int(member.get("layout-offset-in-bits")) // 8:4}: {types.name(variable.get("type-id"))} '
                         f'{variable.get("name")}')
    for name, value in re.findall(r'^#define (WARM_\w+) +(\(?-?[0-9A-Za-z]+\)?)(?: |$)', header, flags=re.M):
        lines.append(f'constant {name}: {value}')
    unique = sorted(set(lines))
    assert any(line.startswith('function') for line in unique) and any(line.startswith('struct') for line in unique)
    return unique


def main():
    library, header_path, path = sys.argv[1:4]
    with open(header_path, encoding='utf-8') as file:
        header = file.read()
    found = dump(load(library, header_path.rsplit('/', 1)[0]), header)
    if sys.argv[4:] == ['--update']:
        with open(path, 'w', encoding='utf-8') as file:
            file.write('\n'.join(found) + '\n')
        return 0
    with open(path, encoding='utf-8') as file:
        wanted = file.read().splitlines()
    difference = [line for line in difflib.unified_diff(wanted, found, path, library, lineterm='', n=0) if not line.startswith('@@')]
    if not difference:
        return 0
    print('\n'.join(difference))
    gone = [line for line in difference[2:] if line.startswith('-')]
    print(f'{len(gone)} lines are gone or changed: programs compiled before break, unless that was never released' if gone else
          'only additions: programs compiled before go on')
    print('if it is meant: ./dev abi, and a line in NEWS.md')
    return 1


if __name__ == '__main__':
    sys.exit(main())
