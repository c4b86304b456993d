#!/usr/bin/env python3
"""Whether this build is slower than another one: the two run in pairs, one directly after the other, the first of a pair in turn, so
that what the host does meanwhile meets both. For each case the ratio of the p50s, pair by pair: above 1 is worse than before. Of cases
that only noise tells apart one in 64 is called slower with six pairs: that one is run again by itself, with more.

usage: compare.py [--pairs N] NEW OLD [ARGUMENT..]
       compare.py --self

NEW and OLD are programs that print one JSON object a line, as `warmbench --json`. Exit code 1: a case is slower; 2: wrong usage, or
a program failed.
"""
import json
import math
import statistics
import subprocess
import sys

PAIRS = 6  # the fewest whose extremes enclose the median by 95 %
CONFIDENT = 0.95
# Two builds of one source differ by this much where code happens to lie.
TOLERATED = 1.05
HIGHER_IS_BETTER = ('GB/s',)


def interval(values):
    """(low, high, confidence): where the median of all ratios lies, by order statistics; the narrowest one of 95 %, or the widest
    there is."""
    values, n = sorted(values), len(values)
    best = None
    for cut in range((n + 1) // 2):
        outside = 2 * sum(math.comb(n, k) for k in range(cut + 1)) / 2 ** n
        if cut == 0 or outside <= 1 - CONFIDENT:
            best = (values[cut], values[n - 1 - cut], 1 - outside)
    return best


def verdict(low, high, confidence):
    if confidence < CONFIDENT:
        return 'too few pairs'
    if low > TOLERATED:
        return 'slower'
    if high < 1 / TOLERATED:
        return 'faster'
    return 'not slower' if high <= TOLERATED else 'not told apart'


def ratio_of(new, old):
    if new['p50'] <= 0 or old['p50'] <= 0:
        return None
    return old['p50'] / new['p50'] if new['unit'] in HIGHER_IS_BETTER else new['p50'] / old['p50']


def run(program, arguments):
    done = subprocess.run([program, '--json', *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        print(f'{program} ended with {done.returncode}', file=sys.stderr)
        sys.exit(2)
    results = (json.loads(line) for line in done.stdout.splitlines())
    return {(result['bench'], result['case']): result for result in results}


def compare(new, old, pairs, arguments):
    """{case: [ratio of each pair]}, and the cases that only one of them has."""
    ratios, alone = {}, set()
    for pair in range(pairs):
        print(f'pair {pair + 1} of {pairs}', file=sys.stderr)
        if pair % 2 == 0:
            ours, theirs = run(new, arguments), run(old, arguments)
        else:
            theirs, ours = run(old, arguments), run(new, arguments)
        alone |= ours.keys() ^ theirs.keys()
        for case in ours.keys() & theirs.keys():
            if (ratio := ratio_of(ours[case], theirs[case])) is not None:
                ratios.setdefault(case, []).append(ratio)
    return ratios, alone


def say(ratios, alone):
    slower = 0
    for case, values in sorted(ratios.items()):
        low, high, confidence = interval(values)
        word = verdict(low, high, confidence)
        slower += word == 'slower'
        print(f'{case[0]:12} {case[1]:44} {statistics.median(values):6.3f}  {low:.3f} to {high:.3f} '
              f'({100 * confidence:.0f} % of {len(values)} pairs)  {word}')
    for case in sorted(alone):
        print(f'{case[0]:12} {case[1]:44} only one of them has it')
    return slower


def self_test():
    failures = []

    def check(what, is_so):
        if not is_so:
            failures.append(what)

    check('six pairs: the median lies between the extremes by 97 %', interval([3, 1, 2, 6, 5, 4]) == (1, 6, 1 - 2 / 64))
    check('nine pairs: the extremes may be left out', interval(range(1, 10)) == (2, 8, 1 - 20 / 512))
    check('one pair says little', interval([2.0]) == (2.0, 2.0, 0.0))
    check('all ratios above what is tolerated', verdict(1.06, 1.3, 0.97) == 'slower')
    check('four pairs judge nothing', verdict(1.06, 1.3, 0.875) == 'too few pairs')
    check('one ratio within it', verdict(1.04, 1.3, 0.97) == 'not told apart')
    check('all ratios within it', verdict(0.99, 1.04, 0.97) == 'not slower')
    check('all ratios far below 1', verdict(0.7, 0.9, 0.97) == 'faster')
    check('longer is worse', ratio_of({'p50': 3, 'unit': 'ns'}, {'p50': 2, 'unit': 'ns'}) == 1.5)
    check('less a second is worse', ratio_of({'p50': 2, 'unit': 'GB/s'}, {'p50': 3, 'unit': 'GB/s'}) == 1.5)
    check('what took no time has no ratio', ratio_of({'p50': 1, 'unit': 'ms'}, {'p50': 0, 'unit': 'ms'}) is None)
    print('\n'.join(failures))
    return 1 if failures else 0


def main():
    arguments, pairs = sys.argv[1:], PAIRS
    if arguments == ['--self']:
        return self_test()
    if arguments[:1] == ['--pairs'] and len(arguments) > 1 and arguments[1].isdigit() and int(arguments[1]) > 0:
        pairs, arguments = int(arguments[1]), arguments[2:]
    if len(arguments) < 2 or arguments[0].startswith('-'):
        print(__doc__, file=sys.stderr)
        return 2
    new, old, *rest = arguments
    slower = say(*compare(new, old, pairs, rest))
    print(f'{slower} slower' if slower else 'nothing is slower')
    return 1 if slower else 0


if __name__ == '__main__':
    sys.exit(main())
