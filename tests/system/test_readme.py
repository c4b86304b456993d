#!/usr/bin/env python3
"""What README shows a newcomer works: every block of code is taken from it and run, in the order in which it stands, in one shell.

usage: test_readme.py SOURCE-ROOT BUILD-ROOT

The blocks are `sh` (run), or a language with a file's name (written there). A block that says neither is text of its own kind and
must be called `text`. The shell starts in a directory that has what a checkout with a build has.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

PATIENCE_S = 120


def blocks_of(text):
    """(info string, text) of each fenced block."""
    return [(m[1].strip(), m[2]) for m in re.finditer(r'^```([^\n]*)\n(.*?)^```$', text, flags=re.S | re.M)]


def script_of(blocks):
    """One shell script of all of them; what is no code is left out."""
    script = 'set -eu\n'
    for info, text in blocks:
        language, _, name = info.partition(' ')
        if language == 'sh':
            script += text
        elif name:
            script += f"cat >{name} <<'END OF FILE'\n{text}END OF FILE\n"
        elif language != 'text':
            raise ValueError(f'a block of README says neither "sh", nor a file\'s name, nor "text", but "{info}":\n{text}')
    return script


def run(script, source, build):
    directory = tempfile.mkdtemp(prefix='warmtier-readme.')
    try:
        os.mkdir(os.path.join(directory, 'build'))
        os.symlink(build, os.path.join(directory, 'build', 'gcc'))
        for name in ('include', 'examples'):
            if os.path.exists(os.path.join(source, name)):
                os.symlink(os.path.join(source, name), os.path.join(directory, name))
        temporary = os.path.join(directory, 'tmp')
        os.mkdir(temporary)
        environment = {k: v for k, v in os.environ.items() if k not in ('WARMTIER_SOCKET', 'XDG_RUNTIME_DIR')}
        return subprocess.run(['bash', '-c', script], cwd=directory, env=dict(environment, TMPDIR=temporary, HOME=temporary),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S, check=False)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main():
    source, build = (os.path.abspath(path) for path in sys.argv[1:])
    with open(os.path.join(source, 'README.md'), encoding='utf-8') as file:
        blocks = blocks_of(file.read())
    answer = run(script_of(blocks), source, build)
    print(answer.stdout)
    failures = []
    if answer.returncode != 0:
        failures.append(f'exit code {answer.returncode}')
    # README says in `text` blocks what comes out, after a line that says so.
    for info, text in blocks:
        if info == 'text prints':
            failures += [f'not printed: {line}' for line in text.splitlines() if line not in answer.stdout]
    if not any(info.startswith('c ') for info, _ in blocks):
        failures.append('there is no C program in it')
    # A step that fails is seen, also in the middle.
    if run(script_of([('sh', 'true\n'), ('sh', 'false\n'), ('sh', 'true\n')]), source, build).returncode == 0:
        failures.append('a failing step was not seen')
    for failure in failures:
        print(failure)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
