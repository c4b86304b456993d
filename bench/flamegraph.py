#!/usr/bin/env python3
"""Draws a flame graph from `perf script`: each box a function, its width the share of samples in which it was on the stack.

usage: perf script | flamegraph.py TITLE >profile.svg
       flamegraph.py --self      draws three samples and looks at the widths
"""
import html
import io
import re
import sys

WIDTH, ROW, LEFT = 1600, 17, 10
NARROWEST = 0.5


class Frame:
    def __init__(self):
        self.samples = 0
        self.children = {}


def read_stacks(lines):
    """Stacks, outermost function first. An empty line ends one."""
    stack, command = [], None
    for line in lines:
        line = line.rstrip('\n')
        if not line.strip():
            if command is not None:
                yield [command, *reversed(stack)]
            stack, command = [], None
        elif not line[0].isspace():
            command = line.split()[0]
        elif match := re.match(r'\s+[0-9a-f]+ (.*?)(?:\+0x[0-9a-f]+)? \([^()]*\)$', line):
            stack.append(re.sub(r'\(.*', '', match[1]) or match[1])
    if command is not None:
        yield [command, *reversed(stack)]


def tree_of(stacks):
    root = Frame()
    for stack in stacks:
        root.samples += 1
        frame = root
        for name in stack:
            frame = frame.children.setdefault(name, Frame())
            frame.samples += 1
    return root


def depth_of(frame):
    return 1 + max((depth_of(child) for child in frame.children.values()), default=0)


def draw(root, title):
    rows = depth_of(root)
    height = (rows + 3) * ROW
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 2 * LEFT}" height="{height}" font-family="monospace" font-size="11">',
           f'<text x="{LEFT}" y="{ROW}" font-size="14">{html.escape(title)}: {root.samples} samples</text>']

    def box(name, frame, x, row):
        width = WIDTH * frame.samples / root.samples
        if width < NARROWEST:
            return
        y = height - (row + 2) * ROW
        share = 100 * frame.samples / root.samples
        color = 20 + sum(map(ord, name)) % 35
        out.append(f'<g><title>{html.escape(name)}: {frame.samples} samples, {share:.1f} %</title>'
                   f'<rect x="{LEFT + x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - 1}" fill="hsl({color},85%,65%)"/>')
        fitting = int(width / 6.7) - 1
        if fitting > 2:
            short = name if len(name) <= fitting else name[:fitting - 2] + '..'
            out.append(f'<text x="{LEFT + x + 3:.2f}" y="{y + ROW - 5}">{html.escape(short)}</text>')
        out.append('</g>')
        for child_name, child in sorted(frame.children.items()):
            box(child_name, child, x, row + 1)
            x += WIDTH * child.samples / root.samples

    x = 0.0
    for name, frame in sorted(root.children.items()):
        box(name, frame, x, 0)
        x += WIDTH * frame.samples / root.samples
    out.append('</svg>')
    return '\n'.join(out) + '\n'


def self_test():
    said = ('daemon 1/1 1.0: cpu-clock:\n\t 10 inner<int>(char)+0x5 (/bin/a)\n\t 20 outer+0x1 (/bin/a)\n\n' * 3 +
            'client 2/2 1.0: cpu-clock:\n\t 30 [unknown] (/bin/b)\n\n')
    svg = draw(tree_of(read_stacks(io.StringIO(said))), 'a & b')
    wanted = ['a &amp; b: 4 samples', 'daemon: 3 samples, 75.0 %', 'outer: 3 samples', 'inner&lt;int&gt;: 3 samples', 'client: 1 samples, 25.0 %']
    missing = [text for text in wanted if text not in svg]
    print('\n'.join(missing))
    return 1 if missing or svg.count('<rect') != 5 else 0


def main():
    if sys.argv[1:] == ['--self']:
        return self_test()
    root = tree_of(read_stacks(sys.stdin))
    if root.samples == 0:
        print('flamegraph: no sample came in', file=sys.stderr)
        return 1
    sys.stdout.write(draw(root, sys.argv[1]))
    return 0


if __name__ == '__main__':
    sys.exit(main())
