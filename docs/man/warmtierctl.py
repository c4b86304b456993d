#!/usr/bin/env python3
"""Makes the man page warmtierctl(1) from what the program says of itself, so that there is one list of commands and defaults.

usage: warmtierctl.py WARMTIERCTL VERSION >warmtierctl.1
"""
import re
import subprocess
import sys


def escaped(text):
    text = text.replace('\\', '\\e').replace('-', '\\-')
    return '\n'.join('\\&' + line if line[:1] in ('.', "'") else line for line in text.split('\n'))


def help_of(program, *command):
    return subprocess.run([program, *command, '--help'], capture_output=True, text=True, check=True).stdout


def parts_of(text):
    """What stands before the first heading, the headed lists, and what follows them."""
    blocks = [block.strip('\n') for block in text.split('\n\n') if block.strip()]
    lists = {}
    rest = []
    for block in blocks[1:]:
        heading, _, body = block.partition('\n')
        if re.fullmatch(r'[A-Z][a-z ]*:', heading) and body.startswith('  '):
            lists[heading[:-1]] = body
        else:
            rest.append(block)
    return blocks[0].split('\n'), lists, rest


def entries(body):
    """Pairs of a name and its sentence; a long name has its sentence on the next lines."""
    found = []
    for line in body.split('\n'):
        match = re.match(r'  (\S.*?)(?:  +(\S.*))?$', line)
        if match:
            found.append([match[1], match[2] or ''])
        else:
            found[-1][1] = (found[-1][1] + ' ' + line.strip()).strip()
    return found


def list_of(body):
    text = ''
    for name, what in entries(body):
        if name.startswith('-h'):
            continue
        # "Excludes: --a --b" and "REQUIRED" are about the option, not its name.
        name, _, excludes = name.partition(' Excludes: ')
        notes = []
        if name.endswith(' REQUIRED'):
            name = name[:-len(' REQUIRED')]
            notes.append('required')
        if excludes:
            notes.append('not with ' + excludes.replace(' ', ', '))
        # The parser's words for ranges and checks, and a type that only repeats the name.
        name = re.sub(r'UINT:UINT in \[(\d+) - (\d+)\]', r'N (\1 to \2)', name)
        name = re.sub(r':POSITIVE$', '', name).replace(' :{', ' {')
        name = re.sub(r'^(\w+) \1$', r'\1', name)
        sentence = what + (f' ({"; ".join(notes)})' if notes else '')
        text += f'.TP\n.B {escaped(name)}\n{escaped(sentence)}\n'
    return text


def main():
    program, version = sys.argv[1:]
    head, lists, rest = parts_of(help_of(program))
    commands = [name for name, _ in entries(lists['Subcommands'])]
    page = (f'.TH WARMTIERCTL 1 "" "warmtier {version}" "warmtier"\n.SH NAME\nwarmtierctl \\- administers and asks a warmtier daemon\n'
            f'.SH SYNOPSIS\n.B warmtierctl\n.RI [ OPTIONS ]\n.I COMMAND\n.RI [ OPTIONS ]\n'
            f'.SH DESCRIPTION\n{escaped(head[0])} It goes through the library, as every other client does;\n.B init\nalone makes files itself.\n'
            f'.SH OPTIONS\n{list_of(lists["Options"])}.SH COMMANDS\n')
    for command in commands:
        about, lists, more = parts_of(help_of(program, command))
        usage = next(line for line in about if line.startswith('Usage: '))[len('Usage: '):]
        page += f'.SS {command}\n{escaped(about[0])}\n.PP\n.B {escaped(usage)}\n'
        for heading, body in lists.items():
            page += list_of(body) if heading in ('Positionals', 'Options') else f'.PP\n{escaped(heading)}:\n{list_of(body)}'
        page += ''.join(f'.PP\n{escaped(block)}\n' for block in more if block not in rest)
    page += '.SH EXIT STATUS AND ADDRESS\n' + ''.join(f'{escaped(block)}\n' for block in rest)
    page += ('.SH EXAMPLES\n.nf\nwarmtierctl status\nwarmtierctl put hello \\-\\-embedding e.json \\-\\-content "hello, world"\n'
             'warmtierctl get hello\n.fi\n.SH SEE ALSO\n.BR warmtierd (8),\n.BR libwarmtier (3)\n')
    sys.stdout.write(page)


if __name__ == '__main__':
    main()
