"""One number of all records' ids, contents and embeddings, read in place: the same in every language that does it so.

usage: checksum.py [ID-PREFIX]

Prints:
  * records, checksum *
"""
import ctypes as c
import sys

import warmtier

xxhash = c.CDLL('libxxhash.so.0')
xxhash.XXH3_64bits_withSeed.restype = c.c_uint64
xxhash.XXH3_64bits_withSeed.argtypes = [c.c_void_p, c.c_size_t, c.c_uint64]

count, total, view = 0, 0, None
with warmtier.Client() as client:
    for view in client.walk(prefix=sys.argv[1].encode() if len(sys.argv) > 1 else b''):
        raw = view._raw
        number = xxhash.XXH3_64bits_withSeed(raw.id, raw.id_bytes, 0)
        number = xxhash.XXH3_64bits_withSeed(raw.content, raw.content_bytes, number)
        number = xxhash.XXH3_64bits_withSeed(raw.embedding, raw.dimensions * 4, number)
        count, total = count + 1, (total + number) % 2**64
    view = raw = None  # the last one is still held
print(f'{count} records, checksum {total}')
