"""Puts under asyncio: the event loop goes on while the daemon stores, and hears from one descriptor when answers are there.

Prints:
  300 puts, 300 different sequences
  the loop went on meanwhile: True
  a put of what is there: WARM_E_EXISTS
"""
import asyncio

import warmtier


async def main():
    with warmtier.Client() as client:
        events = warmtier.Events(client)
        turns = 0

        async def count_turns():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counter = asyncio.create_task(count_turns())
        # More than may be open at a time: those beyond wait for their turn.
        sequences = await asyncio.gather(*(events.put(b'python:%d' % i, [i, 0, 0, 0], b'from the loop') for i in range(300)))
        counter.cancel()
        print(len(sequences), 'puts,', len(set(sequences)), 'different sequences')
        print('the loop went on meanwhile:', turns > 1)
        try:
            await events.put(b'python:0', [0, 0, 0, 0], condition=warmtier.IF_ABSENT)
        except warmtier.Error as error:
            print('a put of what is there:', error.name)
        events.close()


asyncio.run(main())
