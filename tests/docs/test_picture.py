#!/usr/bin/env python3
"""docs/architecture.svg was drawn from docs/architecture.dot as it is.

usage: test_picture.py ROOT
"""
import hashlib
import os
import re
import sys

root = os.path.join(sys.argv[1], 'docs')
with open(os.path.join(root, 'architecture.dot'), 'rb') as file:
    wanted = hashlib.sha256(file.read()).hexdigest()
with open(os.path.join(root, 'architecture.svg'), encoding='utf-8') as file:
    picture = file.read()
found = re.search(r'<!-- of architecture\.dot, sha256 ([0-9a-f]{64}) -->', picture)
if found is None or found[1] != wanted or '</svg>' not in picture:
    print('docs/architecture.svg is not of docs/architecture.dot: run ./dev picture')
    sys.exit(1)
