#!/usr/bin/env python3
"""Rules over the tree that no compiler checks: who may include whom, words that stand for unfinished work, line lengths, heavy
headers in one source each, failpoint names that are unique, no lock of the daemon on memory that clients can write.

usage: test_tree.py [ROOT]      prints each offence as file:line: what; exit code 1 if there is one
       test_tree.py --self      plants one offence of each kind in a tree of its own and looks for it
"""

import os
import re
import subprocess
import sys
import tempfile

COLUMNS = 130
SOURCE_ENDINGS = ('.cpp', '.hpp', '.c', '.h', '.h.in')
SKIPPED_FOLDERS = {'.git', 'build', '__pycache__', '.cache'}

# A room is a folder; the longest match names a file's room. Each may include itself and what stands here.
INCLUDES = {
    'base': {'include'},
    'layout': {'include', 'base'},
    'vector': {'include', 'base', 'layout'},
    'libclient': {'include', 'base', 'layout', 'vector'},
    'daemon/io': {'include', 'base'},
    'daemon/log': {'include', 'base', 'layout', 'daemon/io'},
    'daemon/store': {'include', 'base', 'layout', 'vector', 'daemon/io', 'daemon/log'},
    'daemon/compact': {'include', 'base', 'layout', 'daemon/store'},
    'daemon/session': {'include', 'base', 'layout', 'daemon/store'},
    'daemon/control': {'include', 'base', 'layout', 'daemon/store'},
    # The composition root: it alone knows all rooms of the daemon.
    'daemon': {'include', 'base', 'layout', 'vector', 'daemon/io', 'daemon/log', 'daemon/store', 'daemon/compact', 'daemon/session',
               'daemon/control'},
    'include': set(),
    'tools': {'include', 'base', 'layout'},
    'bindings': {'include'},
    'examples': {'include'},
    # Looking in from outside is what these are for.
    'bench': None,
    'fuzz': None,
    'tests': None,
}

# One source each, with its reason; its room stays as narrow as it is.
EXCEPTIONS = {
    ('tools/ctl_commands.cpp', 'daemon/store'),  # warmtierctl init makes a store; nothing else of it looks past the C door
}

# What may be included in one source of the tree only: it costs tens of seconds to compile. A source that must be the one.
HEAVY = {
    'boost/': None,
    'CLI/': None,
    'nlohmann/': None,
    'toml++/': None,
    'liburing.h': 'daemon/io/uring.cpp',
    'microhttpd.h': 'daemon/control/http.cpp',
}
# These measure and test; each of their programs stands alone.
HEAVY_FREE = ('tests/', 'bench/', 'fuzz/')

# Written so that this file does not offend against itself.
BANNED = ['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX', 'for ' + 'now', 'place' + 'holder']
BANNED_FREE = ('LICENSE',)
HOME = re.compile(r'(?<![\w.}$])/' + r'(home/[A-Za-z0-9_.-]+|root|Users/[A-Za-z0-9_.-]+)/')
# Directories that exist in every Debian, by meaning and not by somebody's account.
HOME_FREE = ('dev',)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
LOCK = re.compile(r'pthread_mutex_\w*lock\w*|\bRobustMutex\b(?!::initialise)')
FAILPOINT = re.compile(r'WARM_FAILPOINT\(\s*"([^"]*)"')


def files_of(root):
    """Tracked files and new ones that git does not ignore; all files where there is no git."""
    try:
        listed = subprocess.run(['git', '-c', f'safe.directory={root}', '-C', root, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout.decode()
        names = [name for name in listed.split('\0') if name]
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, folders, found in os.walk(root):
            folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS]
            names += [os.path.relpath(os.path.join(folder, f), root) for f in found]
    return sorted(n for n in set(names) if os.path.isfile(os.path.join(root, n)))


def room_of(path):
    parts = path.split('/')
    for n in range(len(parts) - 1, 0, -1):
        room = '/'.join(parts[:n])
        if room in INCLUDES:
            return room
    return None


def room_of_include(name):
    return 'include' if name.startswith('warmtier/') else room_of(name)


def check_arrows(path, lines):
    room = room_of(path)
    allowed = INCLUDES.get(room)
    if room is None or allowed is None:
        return
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = room_of_include(match[2])
        if target is not None and target != room and target not in allowed and (path, target) not in EXCEPTIONS:
            yield number, f'{room} may not include {target} ("{match[2]}")'


def check_words(path, lines):
    if path in BANNED_FREE:
        return
    for number, line in enumerate(lines, 1):
        for word in BANNED:
            if re.search(r'\b' + word + r'\b', line, re.IGNORECASE if word[0].islower() else 0):
                yield number, f'the word "{word}"'


def check_homes(path, lines):
    if path in HOME_FREE:
        return
    for number, line in enumerate(lines, 1):
        match = HOME.search(line)
        if match:
            yield number, f'the path of somebody\'s home: {match[0]}'


def check_columns(path, lines):
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            yield number, f'{len(line)} columns, {COLUMNS} are allowed'


def check_locks(path, lines):
    """A mutex in memory that clients write is made by the daemon, and never locked: glibc follows pointers that lie in it."""
    if not path.startswith('daemon/'):
        return
    for number, line in enumerate(lines, 1):
        match = LOCK.search(line.split('//')[0])
        if match:
            yield number, f'the daemon locks what clients can write: {match[0]}'


def check_heavy(sources):
    """Across the tree: {path: lines} of all sources."""
    users = {header: [] for header in HEAVY}
    for path, lines in sources.items():
        if path.startswith(HEAVY_FREE):
            continue
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            for header in HEAVY:
                if match and match[2].startswith(header):
                    users[header].append((path, number))
    for header, places in users.items():
        one = HEAVY[header] or next((path for path, _ in places if path.endswith('.cpp')), None)
        for path, number in places:
            if not path.endswith('.cpp'):
                yield path, number, f'heavy header {header} in a header'
            elif path != one:
                yield path, number, f'heavy header {header} is for {one} alone'


def check_failpoints(sources):
    seen = {}
    for path, lines in sources.items():
        if path.startswith('tests/') or path == 'base/failpoint.hpp':
            continue
        for number, line in enumerate(lines, 1):
            for name in FAILPOINT.findall(line):
                if name in seen:
                    yield path, number, f'failpoint "{name}" is also at {seen[name]}'
                else:
                    seen[name] = f'{path}:{number}'


def offences(root):
    sources = {}
    found = []
    for path in files_of(root):
        try:
            with open(os.path.join(root, path), encoding='utf-8') as file:
                lines = file.read().splitlines()
        except UnicodeDecodeError:
            continue  # a picture, a corpus entry
        checks = [check_words, check_homes]
        if path.endswith(SOURCE_ENDINGS):
            sources[path] = lines
            checks += [check_arrows, check_columns, check_locks]
        for check in checks:
            found += [(path, number, what) for number, what in check(path, lines)]
    found += check_heavy(sources)
    found += check_failpoints(sources)
    return sorted(found)


# What is planted, and what must be said of it. The tree around it is clean.
CLEAN = {
    'base/fd.hpp': '#pragma once\n#include <string>\n#include "warmtier/warmtier.h"\n',
    'base/mapping.cpp': '#include "base/fd.hpp"\n#include <boost/interprocess/mapped_region.hpp>\n',
    'daemon/io/uring.cpp': '#include "daemon/io/io.hpp"\n#include <liburing.h>\nWARM_FAILPOINT("io.one");\n',
    'daemon/store/store.cpp': '#include "daemon/store/store.hpp"\n#include "daemon/io/io.hpp"\n#include "layout/layout.hpp"\n',
    'daemon/session/channel.cpp': 'auto s = base::RobustMutex::initialise(&locks[lane].mutex);\n',
    'daemon/main.cpp': '#include "daemon/session/session.hpp"\n#include "daemon/store/store.hpp"\n#include "daemon/config.hpp"\n',
    'libclient/abi.cpp': '#include "layout/layout.hpp"\n#include "base/fd.hpp"\n// /usr/share/wordnet, $HOME/x, ${dir}/root/x\n',
    'tools/ctl.cpp': '#include "warmtier/warmtier.h"\n#include <CLI/CLI.hpp>\n' + '// ' + 'x' * (COLUMNS - 3) + '\n',
    'tests/unit/test_all.cpp': '#include "libclient/reader.hpp"\n#include "daemon/store/store.hpp"\n#include <liburing.h>\n',
    'README.md': 'Words enough, and a line of whatever length: ' + 'x' * 200 + '\n',
}
PLANTED = [
    ('base/bad.hpp', '#include "layout/layout.hpp"\n', 1, 'base may not include layout'),
    ('layout/bad.cpp', '\n#include "libclient/reader.hpp"\n', 2, 'layout may not include libclient'),
    ('vector/bad.cpp', '#include "daemon/io/io.hpp"\n', 1, 'vector may not include daemon/io'),
    ('libclient/bad.cpp', '#include "daemon/store/store.hpp"\n', 1, 'libclient may not include daemon/store'),
    ('daemon/io/bad.cpp', '  #  include   "daemon/store/store.hpp"\n', 1, 'daemon/io may not include daemon/store'),
    ('daemon/store/bad.cpp', '#include "daemon/session/session.hpp"\n', 1, 'daemon/store may not include daemon/session'),
    ('daemon/session/bad.cpp', '#include "daemon/server.hpp"\n', 1, 'daemon/session may not include daemon'),
    ('daemon/session/worse.cpp', '#include "daemon/io/io.hpp"\n', 1, 'daemon/session may not include daemon/io'),
    ('tools/bad.cpp', '#include "libclient/reader.hpp"\n', 1, 'tools may not include libclient'),
    ('examples/c/bad.c', '#include "base/fd.hpp"\n', 1, 'examples may not include base'),
    ('tools/worse.cpp', '#include "daemon/store/store.hpp"\n', 1, 'tools may not include daemon/store'),
    ('base/words.cpp', 'int a;\n// ' + BANNED[0] + ': more\n', 2, f'the word "{BANNED[0]}"'),
    ('base/words.hpp', '// ' + BANNED[1] + '\n', 1, f'the word "{BANNED[1]}"'),
    ('docs/words.md', 'Good.\n\nGood ' + BANNED[3].capitalize() + '.\n', 3, f'the word "{BANNED[3]}"'),
    ('dev', '# ' + BANNED[2] + '\n', 1, f'the word "{BANNED[2]}"'),
    ('meson.build', '# a ' + BANNED[4] + '\n', 1, f'the word "{BANNED[4]}"'),
    ('base/long.cpp', '// ' + 'x' * (COLUMNS - 2) + '\n', 1, f'{COLUMNS + 1} columns'),
    ('base/heavy.hpp', '#include <boost/align.hpp>\n', 1, 'heavy header boost/ in a header'),
    ('libclient/heavy.cpp', '#include <boost/align.hpp>\n', 1, 'heavy header boost/ is for base/mapping.cpp'),
    ('daemon/io/heavy.cpp', '#include <liburing.h>\n', 1, 'heavy header liburing.h is for daemon/io/uring.cpp'),
    ('tools/zzz.cpp', '#include "CLI/CLI.hpp"\n', 1, 'heavy header CLI/ is for tools/ctl.cpp'),
    ('libclient/point.cpp', '\n  WARM_FAILPOINT("io.one");\n', 2, 'failpoint "io.one" is also at daemon/io/uring.cpp:3'),
    ('daemon/session/lock.cpp', '// RobustMutex\n  base::RobustMutex mutex(&lock.mutex);\n', 2, 'the daemon locks what clients can write'),
    ('daemon/lock.cpp', '  ::pthread_mutex_trylock(&lock.mutex);\n', 1, 'the daemon locks what clients can write'),
    ('docs/home.md', 'see /ho' + 'me/somebody/notes\n', 1, 'somebody\'s home'),
    ('docs/root.md', 'see "/ro' + 'ot/notes"\n', 1, 'somebody\'s home'),
]


def write(root, path, text):
    name = os.path.join(root, path)
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, 'w', encoding='utf-8') as file:
        file.write(text)


def self_test():
    failures = []
    with tempfile.TemporaryDirectory() as root:
        for path, text in CLEAN.items():
            write(root, path, text)
        failures += [f'a clean tree offends: {found}' for found in offences(root)]
        for path, text, number, what in PLANTED:
            write(root, path, text)
            found = offences(root)
            if len(found) != 1 or found[0][:2] != (path, number) or what not in found[0][2]:
                failures.append(f'planted {path}:{number}: {what}; found {found}')
            os.remove(os.path.join(root, path))
    for failure in failures:
        print(failure)
    print(f'{len(PLANTED)} planted offences, {len(failures)} failures')
    return failures


def main():
    if sys.argv[1:] == ['--self']:
        return 1 if self_test() else 0
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
    found = offences(os.path.abspath(root))
    for path, number, what in found:
        print(f'{path}:{number}: {what}')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
