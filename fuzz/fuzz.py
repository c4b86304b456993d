#!/usr/bin/env python3
"""Runs the fuzzers of a build, and says what their committed corpus covers. `./dev fuzz` builds what this needs.

usage: fuzz.py --build DIRECTORY TARGET [SECONDS]
       fuzz.py --build DIRECTORY --all SECONDS [--out FILE --commit COMMIT]
       fuzz.py --build DIRECTORY --coverage [TARGET]
       fuzz.py --list

TARGET runs for a minute, or so many seconds; --all shares the seconds among the targets, as many at once as there are processors,
after the canary, a fault that has to be found first. What inputs reach something new stays in build/fuzz/TARGET and begins the next
run; an input that fails is build/fuzz/TARGET-crash-... --coverage wants a build with -Db_coverage=true. Exit code 1: an input
failed, the canary was not found, or less than 90 % of the lines that a target aims at are covered; 2: wrong usage.
"""
import argparse
import concurrent.futures
import glob
import json
import os
import re
import subprocess
import sys
import time

CORPUS = 'fuzz/corpus'
FOUND = 'build/fuzz'
COVERED = 0.9
CANARY_SECONDS = 60

# What each aims at: functions of a file, by the start of their names within their namespaces.
VALIDATE = 'layout/validate.cpp'
AIMS = {
    'superblock': {VALIDATE: ['validate_superblock', 'choose_superblock', 'superblock_geometry']},
    'slot_line': {VALIDATE: ['validate_line']},
    'segment': {VALIDATE: ['validate_segment_header', 'validate_record']},
    'request': {VALIDATE: ['validate_request', 'all_finite', 'finite']},
    'message': {VALIDATE: ['validate_message', 'greeting', 'validate_segments', 'validate_index_message', 'validate_put', 'validate_hello',
                           'validate_refuse', 'validate_accept', 'validate_sessions', 'validate_watch']},
    'region': {VALIDATE: ['validate_results_header', 'validate_index_header', 'validate_feed_header', 'validate_status_header',
                          'validate_channel_header', 'validate_session_header']},
    # What comes by the socket is the message target's.
    'lane': {'daemon/session/lanes.cpp': ['copy_header', 'access_needed', 'ticket_state', 'answer_cell', 'answer_to_bad_request',
                                          'Channel::count_done', 'Channel::wake', 'Channel::serve_lane', 'Channel::serve',
                                          'Channel::sweep', 'Channel::retry_stalled', 'Channel::anything_published']},
    'recovery': {'daemon/store/recovery.cpp': ['']},
}


def size_of(count):
    return f'{count:,}'


class Campaign:
    """One fuzzer for so many seconds."""

    def __init__(self, build, target, seconds):
        self.target = target
        self.seconds = seconds
        self.log = f'{FOUND}/{target}.log'
        kept = f'{FOUND}/{target}'
        os.makedirs(kept, exist_ok=True)
        committed = f'{CORPUS}/{target}'
        self.command = [f'{build}/fuzz/fuzz_{target}', f'-max_total_time={seconds}', '-print_final_stats=1', '-timeout=20', '-rss_limit_mb=4096',
                        '-close_fd_mask=2', f'-artifact_prefix={FOUND}/{target}-', kept]
        if target != 'canary':  # which has to find it
            self.command.append(committed)

    def run(self):
        begun = time.monotonic()
        with open(self.log, 'wb') as log:
            done = subprocess.run(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False)
        with open(self.log, encoding='utf-8', errors='replace') as log:
            text = log.read()
        executions = re.search(r'stat::number_of_executed_units:\s*(\d+)', text)
        wrote = re.search(r'Test unit written to (\S+)', text)
        return {'target': self.target, 'executions': int(executions[1]) if executions else 0,
                'seconds': round(time.monotonic() - begun, 1), 'failed': done.returncode != 0, 'input': wrote[1] if wrote else None}


def say(result):
    rate = result['executions'] / max(result['seconds'], 0.001)
    print(f"{result['target']}: {size_of(result['executions'])} executions in {result['seconds']:.0f} s ({size_of(int(rate))}/s)", flush=True)
    if result['failed']:
        where = result['input'] or f"{FOUND}/{result['target']}.log"
        print(f"{result['target']}: FAILED, see {where}", flush=True)


def canary(build):
    result = Campaign(build, 'canary', CANARY_SECONDS).run()
    if not result['failed'] or not result['input']:
        print(f'the canary was not found in {CANARY_SECONDS} s: these fuzzers find nothing', file=sys.stderr)
        return False
    os.remove(result['input'])
    print(f"canary: found after {size_of(result['executions'])} executions", flush=True)
    return True


def run_all(build, seconds, out, commit):
    if not canary(build):
        return 1
    at_once = os.cpu_count() or 1
    share = max(1, seconds * at_once // len(AIMS))
    begun = time.monotonic()
    bar = sys.stderr.isatty()
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        running = [pool.submit(Campaign(build, target, share).run) for target in AIMS]
        waiting = set(running)
        while waiting:
            done, waiting = concurrent.futures.wait(waiting, timeout=1 if bar else None, return_when=concurrent.futures.FIRST_COMPLETED)
            if bar:
                passed = time.monotonic() - begun
                print(f'\r{len(running) - len(waiting)} of {len(running)} targets, {passed:.0f} s\x1b[K', end='\r', file=sys.stderr)
            for one in done:
                say(one.result())
    results = [one.result() for one in running]
    total = sum(result['executions'] for result in results)
    failed = any(result['failed'] for result in results)
    print(f'{size_of(total)} executions, {"an input FAILED" if failed else "no input failed"}')
    if out:
        document = {'command': f'./dev fuzz --all {seconds}', 'commit': commit, 'at': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
                    'seconds': round(time.monotonic() - begun, 1), 'executions': total, 'failed': failed,
                    'targets': [{k: v for k, v in result.items() if v is not None} for result in results]}
        with open(out, 'w', encoding='utf-8') as file:
            json.dump(document, file, indent=2)
            file.write('\n')
    return 1 if failed else 0


def within_namespaces(name):
    name = re.sub(r'\(anonymous namespace\)::', '', name)
    name = re.sub(r'^.*?(?=warmtier::)', '', name, count=1)  # what it returns
    return re.sub(r'^(warmtier::|layout::|daemon::|session::|store::)*', '', name).split('(')[0]


def covered_lines(build, source, names):
    """{(function, line): whether an input reached it} of the functions that `names` begin."""
    lines = {}
    directory, base = os.path.split(source)
    for counts in glob.glob(f'{build}/{directory}/**/*{base}.gcda', recursive=True):
        text = subprocess.run(['gcov', '--json-format', '--stdout', os.path.abspath(counts)], cwd=build, stdout=subprocess.PIPE,
                              check=True).stdout
        for unit in (json.loads(line) for line in text.splitlines() if line.strip()):
            for file in unit['files']:
                if not os.path.normpath(file['file']).endswith(source):
                    continue
                spans = [(f['start_line'], f['end_line'], within_namespaces(f['demangled_name'])) for f in file['functions']]
                for line in file['lines']:
                    number = line['line_number']
                    inside = [name for first, last, name in spans if first <= number <= last]
                    for name in inside:
                        if '' in names or name in names:
                            key = (name, number)
                            lines[key] = lines.get(key, False) or line['count'] > 0
    return lines


def coverage(build, targets):
    enough = True
    for target in targets:
        for counts in glob.glob(f'{build}/**/*.gcda', recursive=True):
            os.remove(counts)
        subprocess.run([f'{build}/fuzz/replay_{target}', f'{CORPUS}/{target}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        for source, names in AIMS[target].items():
            lines = covered_lines(build, source, names)
            reached = {line for (_, line), hit in lines.items() if hit}
            everything = {line for _, line in lines}
            share = len(reached) / len(everything) if everything else 0
            missing = sorted(everything - reached)
            print(f'{target}: {share:.1%} of {len(everything)} lines of {source}' +
                  (f'; not reached: {", ".join(map(str, missing))}' if missing else ''))
            enough = enough and share >= COVERED
    return 0 if enough else 1


def main():
    parser = argparse.ArgumentParser(usage='\n'.join(__doc__.split('usage: ')[1].split('\n\n')[0].splitlines()), epilog=__doc__.rsplit('\n\n', 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build')
    parser.add_argument('--all', type=int, metavar='SECONDS')
    parser.add_argument('--coverage', action='store_true')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--out')
    parser.add_argument('--commit', default='unknown')
    parser.add_argument('target', nargs='?')
    parser.add_argument('seconds', nargs='?', type=int, default=60)
    given = parser.parse_args()
    if given.list:
        print('\n'.join(AIMS))
        return 0
    if given.target and given.target not in AIMS:
        parser.error(f"there is no target '{given.target}'; there are {', '.join(AIMS)}")
    if not given.build:
        parser.error('--build names the directory of the fuzzers')
    if (given.all or given.seconds) < 1:
        parser.error('SECONDS is one at least')
    if given.coverage:
        return coverage(given.build, [given.target] if given.target else list(AIMS))
    if given.all:
        return run_all(given.build, given.all, given.out, given.commit)
    if not given.target:
        parser.error('a target, --all or --coverage')
    result = Campaign(given.build, given.target, given.seconds).run()
    say(result)
    return 1 if result['failed'] else 0


if __name__ == '__main__':
    sys.exit(main())
