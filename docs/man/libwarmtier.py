#!/usr/bin/env python3
"""Makes the man page libwarmtier(3) from the header, so that there is one reference and not two.

usage: libwarmtier.py HEADER VERSION >libwarmtier.3

The header's opening comment becomes DESCRIPTION and CAVEATS, each of its sections a section, each call a subsection with its
labels; declarations between the calls are shown as they stand.
"""
import re
import sys

LABELS = ('Returns', 'Lifetime', 'Threads', 'Blocks', 'Since')


def escaped(text):
    """For troff: nothing of it is a request, and a hyphen is one that can be searched for."""
    text = text.replace('\\', '\\e').replace('-', '\\-')
    return '\n'.join('\\&' + line if line[:1] in ('.', "'") else line for line in text.split('\n'))


def unwrapped(comment):
    """A comment's text without its stars."""
    return '\n'.join(re.sub(r'^\s*\* ?', '', line) for line in comment.strip().split('\n')).strip()


def verbatim(code):
    return '.PP\n.nf\n' + escaped(code.strip('\n')) + '\n.fi\n'


def numbered(text):
    """Lines `1. ..` with their continuations, as a list."""
    out = ''
    for item in re.split(r'^\s*(?=\d+\. )', text, flags=re.M):
        if match := re.match(r'(\d+)\. (.*)', item, flags=re.S):
            out += f'.IP {match[1]}. 4\n{escaped(" ".join(match[2].split()))}\n'
    return out


def call(comment, declaration):
    name = re.search(r'\b(warm_\w+)\s*\(', declaration)[1]
    prototype = ' '.join(declaration.replace('WARM_EXPORT', '').replace('WARM_NOEXCEPT', '').split()).replace(' ;', ';')
    parts = re.split(r'\b(' + '|'.join(LABELS) + r'):\s+', unwrapped(comment))
    out = f'.SS {name}\n.nf\n.B {escaped(prototype)}\n.fi\n.PP\n'
    out += escaped(' '.join(parts[0].split())) + '\n'
    for label, text in zip(parts[1::2], parts[2::2]):
        out += f'.TP 10\n.B {label}\n{escaped(" ".join(text.split()))}\n'
    return name, prototype, out


def section(text):
    """Calls with their comments, and what stands between them."""
    names, prototypes, out = [], [], ''
    at = 0
    for match in re.finditer(r'/\*((?:(?!\*/).)*)\*/\s*(WARM_EXPORT[^;]*;)', text, flags=re.S):
        if between := text[at:match.start()].strip('\n '):
            out += verbatim(between)
        name, prototype, described = call(match[1], match[2])
        names.append(name)
        prototypes.append(prototype)
        out += described
        at = match.end()
    if rest := re.sub(r'#ifdef __cplusplus.*', '', text[at:], flags=re.S).strip('\n '):
        out += verbatim(rest)
    return names, prototypes, out


def page(header, version):
    opening, rest = re.match(r'/\*(.*?)\*/(.*)', header, flags=re.S).groups()
    conventions, caveats = re.search(r'Conventions\s*\n(.*)\n\s*\*?\s*\n?\s*\*\s*Caveats\s*\n(.*)', opening, flags=re.S).groups()
    # A section's heading may go on as a paragraph.
    pieces = re.split(r'/\* ---- (.*?) -+(?: \*/|\n((?:(?!\*/).)*)\*/)', rest, flags=re.S)
    # Before the first section: the results and the limits.
    head = '\n'.join(re.findall(r'^/\* The closed table.*?(?=^typedef struct warm_client)', pieces[0], flags=re.S | re.M))
    names, prototypes, sections = [], [], ''
    for title, paragraph, text in zip(pieces[1::3], pieces[2::3], pieces[3::3]):
        found, declared, out = section(text)
        if paragraph:
            out = escaped(' '.join(unwrapped(paragraph).split())) + '\n' + out
        names += found
        prototypes += declared
        sections += f'.SH {title.upper()}\n{out}'
    return (f'.\\" Made from include/warmtier/warmtier.h by docs/man/libwarmtier.py.\n'
            f'.TH libwarmtier 3 "" "warmtier {version}" "warmtier"\n.ad l\n.nh\n'
            f'.SH NAME\n{escaped(", ".join(names))} \\- memories of this host, read in place by any process\n'
            '.SH SYNOPSIS\n.nf\n.B #include <warmtier/warmtier.h>\n.PP\n' +
            ''.join(f'.B {escaped(p)}\n' for p in prototypes) +
            '.PP\ncc program.c $(pkg\\-config \\-\\-cflags \\-\\-libs warmtier)\n.fi\n'
            '.SH DESCRIPTION\n'
            'A memory is an id, an embedding, a few scalars and content. The daemon\n.BR warmtierd (8)\n'
            'owns them; every process that opens a client maps the daemon\\(aqs own bytes read\\-only and looks them up in place.\n'
            f'{numbered(unwrapped(conventions))}'
            f'.SH CAVEATS\n{numbered(unwrapped(caveats))}'
            f'.SH RESULTS AND LIMITS\n{verbatim(head)}{sections}'
            '.SH SEE ALSO\n.BR warmtierctl (1),\n.BR warmtierd (8),\n.BR warmtierd.conf (5)\n')


def main():
    header, version = sys.argv[1:]
    with open(header, encoding='utf-8') as file:
        sys.stdout.write(page(file.read(), version))


if __name__ == '__main__':
    main()
