#!/usr/bin/env python3
"""Every example compiles (the build does that), runs against a daemon and prints what its opening comment says, twice: also on a
store that has its records already.

usage: test_examples.py EXAMPLES-SOURCE EXAMPLES-BUILD LIBRARY WARMTIERD
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from warm_daemon import PATIENCE_S, Daemon  # noqa: E402

SOURCE, BUILD, LIBRARY, DAEMON = sys.argv[1:5]


def promised(path):
    """The lines behind `Prints:` in the opening comment; a `*` at a line's end stands for anything."""
    with open(path, encoding='utf-8') as file:
        text = file.read()
    block = re.search(r'^[ */#]*Prints:\n((?:[ */#]*  \S.*\n)+)', text, flags=re.M)
    if block is None:
        raise ValueError(f'{path} does not say what it prints')
    lines = [re.sub(r'^(?: \*|//|#)?   ?', '', line) for line in block[1].splitlines()]
    return [re.sub(r' ?\*/$|"""$', '', line).rstrip() for line in lines]


def differs(printed, wanted):
    """What differs, or None."""
    if len(printed) != len(wanted):
        return f'{len(printed)} lines instead of {len(wanted)}'
    for got, line in zip(printed, wanted):
        pattern = '.*'.join(re.escape(part) for part in line.split('*'))
        if not re.fullmatch(pattern, got):
            return f'"{got}" instead of "{line}"'
    return None


def python_with_numpy():
    """Debian's NumPy belongs to Debian's interpreter, which need not be the first on the path."""
    for python in (sys.executable, '/usr/bin/python3'):
        if subprocess.run([python, '-c', 'import numpy'], capture_output=True, check=False).returncode == 0:
            return python
    return None


def main():
    examples = []
    for folder, ending in (('c', '.c'), ('cpp', '.cpp')):
        for name in sorted(os.listdir(os.path.join(SOURCE, folder))):
            if name.endswith(ending):
                examples.append((os.path.join(SOURCE, folder, name), [os.path.join(BUILD, 'example_' + name[:-len(ending)])]))
    python = python_with_numpy()
    failures = []
    if python is None:
        failures.append('no python3 has NumPy (python3-numpy)')
    else:
        folder = os.path.join(SOURCE, 'python')
        for name in sorted(os.listdir(folder)):
            if name.endswith('.py') and name != 'warmtier.py':
                examples.append((os.path.join(folder, name), [python, '-B', os.path.join(folder, name)]))
    with Daemon(DAEMON, dimensions=4, capacity=65536) as daemon:
        for source, command in examples:
            for attempt in ('on a fresh store', 'again'):
                try:
                    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
                                            env=dict(daemon.environment(), WARMTIER_LIBRARY=LIBRARY))
                except OSError as error:
                    failures.append(f'{source}: {error}')
                    break
                wrong = differs(answer.stdout.splitlines(), promised(source))
                if answer.returncode != 0 or wrong:
                    failures.append(f'{source}, {attempt}: exit code {answer.returncode}, {wrong}\n{answer.stdout}{answer.stderr}')
        if daemon.stop() != 0:
            failures.append('the daemon did not stop in order')
    if differs(['a', 'b'], ['a', 'c']) is None or differs(['a'], ['a', 'b']) is None or differs(['a 1'], ['a *']) is not None:
        failures.append('the comparison does not see what it must')
    for failure in failures:
        print(failure)
    print(f'{len(examples)} examples, {len(failures)} failures')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
