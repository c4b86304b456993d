#!/usr/bin/env python3
"""docs/format.md has the byte tables of the code, and warmtier-layout sees it when it has not.

usage: test_layout_tables.py WARMTIER-LAYOUT FORMAT.MD
"""

import os
import re
import subprocess
import sys
import tempfile


def run(*arguments):
    return subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def main():
    tool, document = sys.argv[1:]
    result = run(tool, '--check', document)
    if result.returncode != 0:
        print(result.stdout)
        return 1

    with open(document, encoding='utf-8') as file:
        text = file.read()
    cases = {
        'another number in a table': re.sub(r'^\| 16 \| 8 \| `locator`', '| 24 | 8 | `locator`', text, flags=re.M),
        'a line less in a table': re.sub(r'^.*`locator`.*\n', '', text, count=1, flags=re.M),
        'a struct that is missing': text.replace('<!-- layout:SlotLine -->', '', 1),
        'a struct that nobody knows': text.replace('<!-- layout:SlotLine -->', '<!-- layout:SlotLines -->', 1),
        'a marker without its end': re.sub(r'<!-- layout:end -->(?![\s\S]*<!-- layout:end -->)', '', text),
    }
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'format.md')
        for what, changed in cases.items():
            with open(path, 'w', encoding='utf-8') as file:
                file.write(changed)
            if changed == text or run(tool, '--check', path).returncode != 1:
                print(f'not seen: {what}')
                failed = 1
        with open(path, 'w', encoding='utf-8') as file:
            file.write(cases['a line less in a table'])
        if run(tool, '--update', path).returncode != 0 or open(path, encoding='utf-8').read() != text:
            print('--update does not bring the tables back')
            failed = 1
    return failed


if __name__ == '__main__':
    sys.exit(main())
