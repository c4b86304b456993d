"""A whole chunk as a NumPy matrix in place: a scan over all embeddings without a copy and without a call for each record.

Prints:
  the nearest to [1, 2, 3, 4]: python:chunk:7
  the matrix is read-only: True
  a row that was replaced is not live any more: True
  the others are: True
"""
import numpy

import warmtier

with warmtier.Client() as client:
    for i in range(20):
        client.put(b'python:chunk:%d' % i, [1, 2, 3, 4] if i == 7 else [i, -1, 0, 1], b'row %d' % i)

    query = numpy.array([1, 2, 3, 4], dtype='<f4')
    best = (-1.0, None)
    ours = None
    for chunk in client.chunks():
        rows, live = chunk.rows, chunk.live
        lengths = numpy.linalg.norm(rows, axis=1)
        scores = numpy.where(live, rows @ query / numpy.where(lengths > 0, lengths, 1), -numpy.inf)
        chunk.check()  # rows that changed meanwhile do not count
        scores[~chunk.live] = -numpy.inf
        row = int(scores.argmax())
        if scores[row] > best[0] * numpy.linalg.norm(query):
            best = (float(scores[row] / numpy.linalg.norm(query)), chunk.view(row).id.decode())
            ours = chunk, row
    print('the nearest to [1, 2, 3, 4]:', best[1])

    chunk, row = ours
    print('the matrix is read-only:', not chunk.rows.flags.writeable)
    before = chunk.live
    client.put(b'python:chunk:7', [4, 3, 2, 1])
    chunk.check()
    print('a row that was replaced is not live any more:', bool(before[row] and not chunk.live[row]))
    others = numpy.delete(numpy.arange(len(before)), row)
    print('the others are:', bool((before[others] == chunk.live[others]).all()))
    del chunk, ours, rows
