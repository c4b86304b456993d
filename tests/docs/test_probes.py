#!/usr/bin/env python3
"""The probes that docs/operations.md lists are those in the binaries, with as many arguments; the script that comes along names
only such.

usage: test_probes.py ROOT DAEMON LIBRARY
"""
import os
import re
import subprocess
import sys

root, daemon, library = sys.argv[1:]
failures = []


def text_of(*path):
    with open(os.path.join(root, *path), encoding='utf-8') as file:
        return file.read()


def probes_of(binary):
    """{name: numbers of arguments}: inlining puts one probe at several places."""
    notes = subprocess.check_output(['readelf', '-nW', binary], text=True)
    found = {}
    for provider, name, arguments in re.findall(r'Provider: (\S+)\n\s+Name: (\S+)\n.*\n\s+Arguments: ?(.*)', notes):
        if provider == 'warmtier':  # the C++ runtime inside the library has some of its own
            found.setdefault(name, set()).add(len(arguments.split()))
    return found


def main():
    said = {'daemon': {}, 'library': {}}
    part = text_of('docs', 'operations.md').split('\n## Tracing\n', 1)[1].split('\n## ', 1)[0]
    for name, where, arguments in re.findall(r'^\| `(\w+)` \| (\w+) \|(.*)\|$', part, flags=re.M):
        said[where][name] = {len([word for word in arguments.split(',') if word.strip()])}
    for where, binary in (('daemon', daemon), ('library', library)):
        found = probes_of(binary)
        for name in sorted(said[where].keys() | found.keys()):
            if said[where].get(name) != found.get(name):
                failures.append(f'{where}: {name} has {found.get(name, "no note")} arguments, docs/operations.md says {said[where].get(name, "nothing")}')
    script = text_of('tools', 'trace', 'latency.bt')
    named = set(re.findall(r'^usdt:\$1:warmtier:(\w+)', script, flags=re.M))
    if named != said['library'].keys():
        failures.append(f'tools/trace/latency.bt and docs/operations.md differ about {sorted(named ^ said["library"].keys())}')
    for failure in failures:
        print(failure)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
