#!/usr/bin/env python3
"""Plays the models of this folder: as designed they must hold, with a rule left out they must break, by a claim of theirs and not because
somebody is stuck (`sticks` where that is the violation). What is played stands in each model's first comment:

    run: holds|breaks|sticks [RULE ..][, quick]: [-DNAME ..]

usage: check.py [--quick] [--jobs N] [--out FILE --commit HASH] [NAME ..]      plays all, or those of these models; 1: not all as expected
       check.py --names ROOT    says what is not so: rules that docs/protocol.md does not have, omissions that no run leaves out
Needs Spin and gcc. A run is given up at 600 seconds or 3 GiB; the state of each is kept whole, nothing is sampled.
"""

import concurrent.futures
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
RUN = re.compile(r'^ \* run: (holds|breaks|sticks)((?: [\w.]+)*)(, quick)?:((?: -D\w+(?:=\d+)?)*)$', re.M)
SECONDS_MAX = 600
MIB_MAX = 3072
FOUND = {'assertion violated': 'breaks', 'invalid end state': 'sticks'}
INCOMPLETE = ('max search depth too small', 'out of memory', 'Search not completed')


class Run:
    def __init__(self, model, want, rules, quick, defines):
        self.model, self.want, self.rules, self.quick = model, want, rules.split(), bool(quick)
        self.defines = defines.split()
        self.got, self.states, self.seconds, self.said = '', 0, 0.0, ''

    def play(self):
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            try:
                self.got = self.play_in(pathlib.Path(directory))
            except subprocess.TimeoutExpired:
                self.got = f'no end in {SECONDS_MAX} s'
        self.seconds = time.monotonic() - begin
        return self

    def play_in(self, directory):
        # Where the model lies must not matter: Spin hands its name to the C preprocessor.
        (directory / 'm.pml').write_text((HERE / f'{self.model}.pml').read_text())
        # What is quick lasts less than the compiler at work on it.
        compiler = ['gcc', '-O0' if self.quick else '-O2', '-w', '-DSAFETY', '-DCOLLAPSE', '-DVECTORSZ=2048', f'-DMEMLIM={MIB_MAX}', '-o', 'pan', 'pan.c']
        for command in (['spin', '-a', *self.defines, 'm.pml'], compiler):
            made = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
            if made.returncode != 0:
                self.said = (made.stdout + made.stderr)[-2000:]
                return f'{command[0]} failed'
        # A claim is to break and nothing else, or somebody is to be stuck and nothing else.
        alone = {'breaks': ['-E'], 'sticks': ['-A']}.get(self.want, [])
        said = subprocess.run(['./pan', '-m2000000', '-w22', *alone], cwd=directory, capture_output=True, text=True, check=False, timeout=SECONDS_MAX).stdout
        self.said = said.split('(Spin Version')[0]
        states = re.search(r'([\d.e+]+) states, stored', said)
        self.states = int(float(states[1])) if states else 0
        errors = re.search(r'errors: (\d+)', said)
        if errors is None:
            return 'incomplete'
        if errors[1] == '0':
            return 'incomplete' if any(words in said for words in INCOMPLETE) else 'holds'
        return next((verdict for words, verdict in FOUND.items() if words in said), 'fails otherwise')


def runs_of(path):
    return [Run(path.stem, *match) for match in RUN.findall(path.read_text())]


def models():
    return sorted(HERE.glob('*.pml'))


def play(arguments):
    quick, names, jobs, out, commit = False, [], os.cpu_count() or 1, None, 'unknown'
    while arguments:
        argument = arguments.pop(0)
        if argument == '--quick':
            quick = True
        elif argument == '--jobs':
            jobs = int(arguments.pop(0))
        elif argument == '--out':
            out = arguments.pop(0)
        elif argument == '--commit':
            commit = arguments.pop(0)
        elif argument.startswith('-'):
            sys.exit(__doc__)
        else:
            names.append(argument)
    unknown = set(names) - {path.stem for path in models()}
    if unknown:
        sys.exit(f'no such model: {", ".join(sorted(unknown))}')
    runs = [run for path in models() if not names or path.stem in names for run in runs_of(path) if run.quick or not quick]
    wrong, begin, bar = 0, time.monotonic(), sys.stdout.isatty()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for done, run in enumerate(concurrent.futures.as_completed([pool.submit(run.play) for run in runs]), 1):
            run = run.result()
            right = run.got == run.want
            wrong += not right
            if bar:
                print('\r\033[K', end='')
            if bar or not right:
                line = f'{run.model:<10} {" ".join(run.defines) or "as designed":<70} {run.got:<8} {run.states:>10} states {run.seconds:6.1f} s'
                print(line if right else f'{line}, EXPECTED: {run.want}')
            if not right and run.got not in FOUND.values():
                print(run.said)
            if bar:
                print(f'{done}/{len(runs)}', end='', flush=True)
    if bar:
        print('\r\033[K', end='')
    print(f'{len(runs)} runs of {len({run.model for run in runs})} models in {time.monotonic() - begin:.0f} s: '
          f'{sum(run.want == "holds" for run in runs)} as designed, {sum(run.want != "holds" for run in runs)} with a rule left out, {wrong} not as expected')
    if out:
        kept = [{'model': run.model, 'defines': ' '.join(run.defines), 'left_out': ' '.join(run.rules), 'verdict': run.got, 'states': run.states,
                 'seconds': round(run.seconds, 1)} for run in runs]
        with open(out, 'w', encoding='utf-8') as file:
            rows = ',\n'.join('  ' + json.dumps(row) for row in kept)
            date = datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
            file.write(f'{{"commit": "{commit}", "date": "{date}", "not_as_expected": {wrong}, "runs": [\n{rows}\n]}}\n')
    return 1 if wrong else 0


def check_names(root):
    with open(os.path.join(root, 'docs', 'protocol.md'), encoding='utf-8') as file:
        protocol = file.read()
    rules = set(re.findall(r'^- \*\*([A-Z]\d+)\*\* ', protocol, flags=re.M)) | set(re.findall(r'\[((?:client|store|daemon)\.\w+)\]', protocol))
    readme = (HERE / 'README.md').read_text()
    failed = 0
    for path in models():
        text = path.read_text()
        runs = runs_of(path)
        said = [f'{path.stem}: a line that is no run: {line}' for line in re.findall(r'^ \* run:.*$', text, flags=re.M) if not RUN.match(line)]
        for run in runs:
            said += [f'{path.stem}: docs/protocol.md has no rule {rule}' for rule in run.rules if rule not in rules]
            if run.want != 'holds' and not run.rules:
                said.append(f'{path.stem}: no rule is said to be left out by {" ".join(run.defines)}')
        left_out = {define[2:].split('=')[0] for run in runs for define in run.defines}
        said += [f'{path.stem}: nothing plays {name}' for name in sorted(set(re.findall(r'^ *#ifdef (\w+)', text, flags=re.M)) - left_out)]
        if not any(run.want == 'holds' for run in runs) or not any(run.want != 'holds' for run in runs):
            said.append(f'{path.stem}: plays the design, or what is left out, not at all')
        if not any(run.quick and run.want != 'holds' for run in runs):
            said.append(f'{path.stem}: nothing that breaks is quick')
        if f'`{path.name}`' not in readme:
            said.append(f'{path.stem}: README.md does not say what it is')
        failed |= bool(said)
        for line in said:
            print(line)
    return int(failed)


def main():
    if sys.argv[1:2] == ['--names']:
        return check_names(sys.argv[2])
    return play(sys.argv[1:])


if __name__ == '__main__':
    sys.exit(main())
