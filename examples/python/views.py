"""A record as a NumPy array in place: nothing is copied, nothing can be written, and the array holds its view.

Prints:
  [0.5, 1.5, 2.5, 3.5]
  read-only: True
  the daemon's memory: True
  after a replace the array is what it was: [0.5, 1.5, 2.5, 3.5]
  and the id names: [9.0, 9.0, 9.0, 9.0]
  content: some text
  close while an array is there: WARM_E_BUSY
  closed
"""
import gc

import warmtier


def maps_of_the_store():
    with open('/proc/self/maps', encoding='ascii') as file:
        for line in file:
            if line.rstrip().endswith('warm.tier'):
                first, last = line.split()[0].split('-')
                yield int(first, 16), int(last, 16), line.split()[1]


client = warmtier.Client()
client.put(b'python:view', [0.5, 1.5, 2.5, 3.5], b'some text')
view = client.get(b'python:view')
embedding = view.embedding
content = view.content
print(embedding.tolist())
try:
    embedding[0] = 1
    print('read-only: False')
except ValueError:
    print('read-only:', not embedding.flags.writeable)
address = embedding.ctypes.data
print("the daemon's memory:", any(first <= address < last and access == 'r--s' for first, last, access in maps_of_the_store()))

client.put(b'python:view', [9, 9, 9, 9])
del view  # the arrays hold it
gc.collect()
print('after a replace the array is what it was:', embedding.tolist())
print('and the id names:', client.get(b'python:view').embedding.tolist())
print('content:', bytes(content).decode())

try:
    client.close()
except warmtier.Error as error:
    print('close while an array is there:', error.name)
del embedding, content
gc.collect()
client.close()
print('closed')
