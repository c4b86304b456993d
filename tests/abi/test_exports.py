#!/usr/bin/env python3
"""What the library exports is what the header declares and what the symbol map names; what it needs at run time is little.

usage: test_exports.py LIBRARY HEADER SYMBOL-MAP
"""
import re
import subprocess
import sys

library, header, symbol_map = sys.argv[1:]
failures = []

with open(header) as file:
    declared = set(re.findall(r'\b(warm_\w+)\s*\(', re.sub(r'/\*.*?\*/', '', file.read(), flags=re.S)))
with open(symbol_map) as file:
    text = re.sub(r'/\*.*?\*/|#.*', '', file.read(), flags=re.S)
nodes = re.findall(r'([\w.]+)\s*\{(.*?)\}', text, flags=re.S)
mapped = {name: node for node, body in nodes for name in re.findall(r'\b(warm_\w+)\s*;', body)}

exported = {}
for line in subprocess.check_output(['nm', '-D', '--defined-only', '--with-symbol-versions', library], text=True).splitlines():
    _, kind, name = line.split(maxsplit=2)
    if kind == 'A':
        continue
    name, _, version = name.replace('@@', '@').partition('@')
    exported[name] = version

if declared != set(exported):
    failures.append(f'header and export list differ: {sorted(declared ^ set(exported))}')
if mapped != exported:
    failures.append(f'symbol map and export list differ: {sorted(set(mapped.items()) ^ set(exported.items()))}')

dynamic = subprocess.check_output(['readelf', '-dW', library], text=True)
needed = set(re.findall(r'\(NEEDED\).*\[(.*)\]', dynamic))
allowed = re.compile(r'^(libc\.so|libzstd\.so|libm\.so|ld-linux|libpthread|libasan|libubsan|libtsan)')
if strangers := [name for name in needed if not allowed.match(name)]:
    failures.append(f'needs at run time: {sorted(strangers)}')
if not re.search(r'\(SONAME\).*\[libwarmtier\.so\.0\]', dynamic):
    failures.append('the soname is not libwarmtier.so.0')
if 'NODELETE' not in dynamic:
    failures.append('the library is not linked with -z nodelete')

# The C++ runtime is inside: nothing of it is asked for, but for what may stay unresolved (weak).
sanitized = any(name.startswith(('libasan', 'libubsan', 'libtsan')) for name in needed) or '__asan' in subprocess.check_output(['nm', '-D', library], text=True)
imported = subprocess.check_output(['nm', '-D', '--undefined-only', '--with-symbol-versions', library], text=True)
strange = [name for name in re.findall(r' U (\S+)', imported) if re.match(r'_Z|__cxa_(?!finalize|atexit|thread_atexit_impl)|_Unwind_', name) or
           re.search(r'@(GLIBCXX|CXXABI|GCC)_', name)]
if strange and not sanitized:
    failures.append(f'asks other libraries for the C++ runtime: {strange}')

for failure in failures:
    print(failure)
sys.exit(1 if failures else 0)
