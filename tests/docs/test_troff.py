#!/usr/bin/env python3
"""Manual pages that troff has something to say about, or that name no section, are named.

usage: test_troff.py PAGE..
"""
import os
import shutil
import subprocess
import sys
import tempfile


def complaints(page):
    run = subprocess.run(['man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', page], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                         text=True, env=dict(os.environ, LC_ALL='C.UTF-8', MANROFFSEQ='', MANWIDTH='100'), check=False)
    return run.stderr.strip() or ('' if run.returncode == 0 else f'{page}: man ended with {run.returncode}')


def main():
    if shutil.which('man') is None:
        print('no man here')
        return 77
    found = [text for text in map(complaints, sys.argv[1:]) if text]
    with tempfile.NamedTemporaryFile('w', suffix='.1') as planted:
        planted.write('.TH PLANTED 1\n.SH NAME\nplanted \\- has a mistake\n.nonsense\n')
        planted.flush()
        if not complaints(planted.name):
            found.append('a planted mistake is not seen')
    print('\n'.join(found))
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
