#!/usr/bin/env python3
"""Functions whose instructions differ between two builds of one program, with how many they have in each: what a change costs where
no clock can tell it. Alignment and `nop` are counted apart, so a probe's own place is none.

usage: instructions.py NEW OLD        two programs or libraries that are not stripped
"""
import re
import subprocess
import sys

FILLING = re.compile(r'nop|data16|cs$|xchg')


def functions_of(program):
    text = subprocess.run(['objdump', '-d', '-C', '--no-show-raw-insn', program], stdout=subprocess.PIPE, text=True, check=True).stdout
    functions, name = {}, None
    for line in text.splitlines():
        if heading := re.match(r'[0-9a-f]+ <(.*)>:$', line):
            name = heading[1]
            functions.setdefault(name, [])
        elif (instruction := re.match(r'\s+[0-9a-f]+:\t(\S+)', line)) and name:
            functions[name].append(instruction[1])
    return functions


def main():
    if len(sys.argv) != 3:
        print(__doc__.split('\n\n')[1], file=sys.stderr)
        return 2
    new, old = functions_of(sys.argv[1]), functions_of(sys.argv[2])
    working = lambda instructions: [i for i in instructions if not FILLING.match(i)]
    for name in sorted(new.keys() | old.keys()):
        here, there = new.get(name, []), old.get(name, [])
        if working(here) != working(there):
            print(f'{name.replace("(anonymous namespace)", "{anonymous}").split("(")[0]}: {len(working(here))} instructions instead of {len(working(there))}, '
                  f'{len(here) - len(working(here))} nops instead of {len(there) - len(working(there))}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
