"""warmtier from Python: ctypes on the C library, NumPy arrays in place.

An array over a view reads the daemon's own memory: nothing is copied, it cannot be written, and it keeps its view (and the client)
alive. The file stands for itself; take it along. $WARMTIER_LIBRARY names the library where the loader does not find it.
"""
import ctypes as c
import os

OK, NOT_FOUND = 0, -2
TICKETS_MAX = 256
IF_ANY, IF_ABSENT, IF_SEQUENCE = 0, 1, 2
GIVEN_CONTENT, GIVEN_CREATED, GIVEN_LAST_ACCESS = 1, 2, 4

_library = c.CDLL(os.environ.get('WARMTIER_LIBRARY', 'libwarmtier.so.0'), use_errno=False)
for _name in ('warm_error_name', 'warm_strerror', 'warm_last_error', 'warm_version'):
    getattr(_library, _name).restype = c.c_char_p


class Error(Exception):
    """What a call answered: `code` is one of WARM_E_*, `name` its name."""

    def __init__(self, code, text=None):
        self.code = code
        self.name = _library.warm_error_name(code).decode()
        super().__init__(f'{text or _library.warm_last_error().decode()} ({self.name})')


class NotFound(Error, KeyError):
    """No record has this id."""


def _must(code):
    if code != OK:
        raise NotFound(code) if code == NOT_FOUND else Error(code)


class _Sized(c.Structure):
    """Structs of the header start with their size."""

    def __init__(self, **fields):
        super().__init__(struct_bytes=c.sizeof(self), **fields)


class _Options(_Sized):
    _fields_ = [('struct_bytes', c.c_uint32), ('timeout_ms', c.c_uint32), ('socket', c.c_char_p), ('reserved', c.c_uint64 * 6)]


class _Info(_Sized):
    _fields_ = [('struct_bytes', c.c_uint32), ('dimensions', c.c_uint32), ('row_bytes', c.c_uint32), ('views_max', c.c_uint32),
                ('capacity', c.c_uint64), ('content_bytes_max', c.c_uint64), ('store_id', c.c_uint8 * 16), ('session', c.c_uint64),
                ('daemon_pid', c.c_uint32), ('reserved', c.c_uint32)]


class _Memory(_Sized):
    _fields_ = [('struct_bytes', c.c_uint32), ('given', c.c_uint32), ('id', c.c_char_p), ('id_bytes', c.c_size_t),
                ('embedding', c.c_void_p), ('dimensions', c.c_uint32), ('condition', c.c_uint32), ('if_sequence', c.c_uint64),
                ('content', c.c_char_p), ('content_bytes', c.c_size_t), ('created_ns', c.c_uint64), ('last_access_ns', c.c_uint64),
                ('confidence', c.c_float), ('activation', c.c_float), ('decay_rate', c.c_float), ('recall_count', c.c_uint32),
                ('flags', c.c_uint32), ('reserved32', c.c_uint32), ('reserved', c.c_uint64 * 4)]


class _View(_Sized):
    _fields_ = [('struct_bytes', c.c_uint32), ('content_state', c.c_uint32), ('id', c.c_void_p), ('embedding', c.c_void_p),
                ('content', c.c_void_p), ('content_bytes', c.c_uint64), ('id_bytes', c.c_uint32), ('dimensions', c.c_uint32),
                ('sequence', c.c_uint64), ('created_ns', c.c_uint64), ('last_access_ns', c.c_uint64), ('confidence', c.c_float),
                ('activation', c.c_float), ('decay_rate', c.c_float), ('recall_count', c.c_uint32), ('internal', c.c_uint64 * 6)]


_FLT_MAX = 3.4028234663852886e38
_U32_MAX, _U64_MAX = 2**32 - 1, 2**64 - 1


class _Filter(_Sized):
    _fields_ = [('struct_bytes', c.c_uint32), ('content', c.c_uint32), ('id_prefix', c.c_void_p), ('id_prefix_bytes', c.c_size_t),
                ('confidence_min', c.c_float), ('confidence_max', c.c_float), ('activation_min', c.c_float),
                ('activation_max', c.c_float), ('decay_rate_min', c.c_float), ('decay_rate_max', c.c_float),
                ('recall_count_min', c.c_uint32), ('recall_count_max', c.c_uint32), ('created_ns_min', c.c_uint64),
                ('created_ns_max', c.c_uint64), ('last_access_ns_min', c.c_uint64), ('last_access_ns_max', c.c_uint64),
                ('sequence_min', c.c_uint64), ('sequence_max', c.c_uint64), ('content_bytes_min', c.c_uint64),
                ('content_bytes_max', c.c_uint64), ('reserved', c.c_uint64 * 4)]

    def __init__(self, **fields):
        everything = {'recall_count_max': _U32_MAX}
        everything.update({f'{name}_min': -_FLT_MAX for name in ('confidence', 'activation', 'decay_rate')})
        everything.update({f'{name}_max': _FLT_MAX for name in ('confidence', 'activation', 'decay_rate')})
        everything.update({f'{name}_max': _U64_MAX for name in ('created_ns', 'last_access_ns', 'sequence', 'content_bytes')})
        super().__init__(**{**everything, **fields})


class _Chunk(_Sized):
    _fields_ = [('struct_bytes', c.c_uint32), ('dimensions', c.c_uint32), ('rows', c.c_void_p), ('row_bytes', c.c_uint64),
                ('row_count', c.c_uint32), ('live_rows', c.c_uint32), ('live', c.c_uint64 * 16), ('chunk', c.c_uint64),
                ('internal', c.c_uint64 * 4)]


class _Result(c.Structure):
    _fields_ = [('code', c.c_int32), ('reserved', c.c_uint32), ('sequence', c.c_uint64)]


class _Completion(c.Structure):
    _fields_ = [('ticket', c.c_uint64), ('result', _Result)]


class _InPlace:
    """What NumPy asks for an array over memory that somebody else owns; the array keeps this object, and this object the owner."""

    def __init__(self, owner, address, shape, kind, strides=None):
        self.owner = owner
        self.__array_interface__ = {'version': 3, 'data': (address, True), 'shape': shape, 'typestr': kind, 'strides': strides}


def _array(owner, address, shape, kind, strides=None):
    import numpy  # views without arrays need none
    return numpy.asarray(_InPlace(owner, address, shape, kind, strides))


def _address_of_floats(embedding):
    """(address, number, what keeps it alive) of an array, a list, anything NumPy takes."""
    import numpy
    row = numpy.ascontiguousarray(embedding, dtype='<f4')
    return row.ctypes.data, row.size, row


def _memory(id, embedding, content, fields):
    """The struct, and what it points to besides `id` and `content`."""
    address, number, kept = _address_of_floats(embedding)
    given = (GIVEN_CONTENT if content is not None else 0) | (GIVEN_CREATED if 'created_ns' in fields else 0)
    given |= GIVEN_LAST_ACCESS if 'last_access_ns' in fields else 0
    return _Memory(given=given, id=id, id_bytes=len(id), embedding=address, dimensions=number, content=content,
                   content_bytes=len(content or b''), **{'confidence': 1.0, **fields}), kept


class View:
    """One record in place. It stays what it is while it, or an array of it, is there."""

    def __init__(self, client, raw):
        self._client = client
        self._raw = raw

    def __del__(self):
        if self._client is not None and self._client._handle:
            _library.warm_release(self._client._handle, c.byref(self._raw))

    @property
    def id(self):
        return c.string_at(self._raw.id, self._raw.id_bytes)

    @property
    def embedding(self):
        """The row, in place."""
        return _array(self, self._raw.embedding, (self._raw.dimensions,), '<f4')

    @property
    def content(self):
        """The bytes in place, as a memoryview that cannot be written; None when the record has no content."""
        if self._raw.content_state == 0:
            return None
        return memoryview(_array(self, self._raw.content, (self._raw.content_bytes,), '|u1'))

    def __getattr__(self, name):
        if name in ('sequence', 'created_ns', 'last_access_ns', 'confidence', 'activation', 'decay_rate', 'recall_count'):
            return getattr(self._raw, name)
        raise AttributeError(name)


class Chunk:
    """Up to 1024 embeddings as one matrix in place, and which of its rows are records."""

    def __init__(self, client, raw):
        self._client = client
        self._raw = raw

    def __del__(self):
        if self._client is not None and self._client._handle:
            _library.warm_chunk_close(self._client._handle, c.byref(self._raw))

    @property
    def rows(self):
        """The matrix in place. A row may change while it is read: check() says which ones did."""
        return _array(self, self._raw.rows, (self._raw.row_count, self._raw.dimensions), '<f4', (self._raw.row_bytes, 4))

    @property
    def live(self):
        """A bool for each row: whether it held a record when the chunk was opened, and since then did not change (check)."""
        import numpy
        words = numpy.frombuffer(bytes(self._raw.live), dtype='u1')
        return numpy.unpackbits(words, bitorder='little')[:self._raw.row_count].astype(bool)

    def check(self):
        """Takes the rows out of `live` that changed."""
        _must(_library.warm_chunk_check(self._client._handle, c.byref(self._raw)))

    def view(self, row):
        """The record of a row that is live."""
        raw = _View()
        _must(_library.warm_chunk_view(self._client._handle, c.byref(self._raw), c.c_uint32(row), c.byref(raw)))
        return View(self._client, raw)


class Client:
    """One attached process; all of its threads may use it."""

    def __init__(self, socket=None, timeout_ms=0):
        self._handle = c.c_void_p()
        options = _Options(timeout_ms=timeout_ms, socket=os.fsencode(socket) if socket else None)
        _must(_library.warm_open(c.byref(options), c.byref(self._handle)))

    def close(self):
        """Raises while views are held: an array that is still somewhere holds one."""
        _must(_library.warm_close(self._handle))
        self._handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def dimensions(self):
        info = _Info()
        _must(_library.warm_info_get(self._handle, c.byref(info)))
        return info.dimensions

    def put(self, id, embedding, content=None, **fields):
        """Stores a memory; its sequence. Fields: condition, if_sequence, created_ns, last_access_ns, confidence, .."""
        memory, _kept = _memory(id, embedding, content, fields)
        sequence = c.c_uint64()
        _must(_library.warm_put(self._handle, c.byref(memory), c.byref(sequence)))
        return sequence.value

    def submit(self, id, embedding, content=None, **fields):
        """Hands in a put and does not wait for it; its ticket."""
        memory, _kept = _memory(id, embedding, content, fields)
        ticket = c.c_uint64()
        _must(_library.warm_put_submit(self._handle, c.byref(memory), c.byref(ticket)))
        return ticket.value

    def get(self, id, flags=0):
        raw = _View()
        _must(_library.warm_get(self._handle, id, c.c_size_t(len(id)), c.c_uint32(flags), c.byref(raw)))
        return View(self, raw)

    def walk(self, prefix=b'', at_once=256):
        """Views of every record whose id begins with `prefix`; each record once."""
        prefix_bytes = c.create_string_buffer(prefix, max(1, len(prefix)))
        filter = _Filter(id_prefix=c.addressof(prefix_bytes), id_prefix_bytes=len(prefix))
        cursor = c.c_void_p()
        _must(_library.warm_cursor_open(self._handle, c.byref(filter), c.byref(cursor)))
        try:
            count = c.c_size_t(1)
            while count.value > 0:
                raw = (_View * at_once)(*(_View() for _ in range(at_once)))
                _must(_library.warm_cursor_next(cursor, c.c_uint32(0), raw, c.c_size_t(at_once), c.byref(count)))
                for i in range(count.value):
                    yield View(self, _View.from_buffer_copy(raw[i]))
        finally:
            _library.warm_cursor_close(cursor)

    def chunks(self):
        """Every chunk of the store, one after the other."""
        number = c.c_uint64()
        _must(_library.warm_chunk_count(self._handle, c.byref(number)))
        for chunk in range(number.value):
            raw = _Chunk()
            _must(_library.warm_chunk_open(self._handle, c.c_uint64(chunk), c.byref(raw)))
            yield Chunk(self, raw)

    def remove(self, id):
        _must(_library.warm_remove(self._handle, id, c.c_size_t(len(id)), IF_ANY, c.c_uint64(0), 0, None))


class Events:
    """A client's puts under asyncio; made and used in a running loop."""

    def __init__(self, client):
        import asyncio
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(TICKETS_MAX)
        self._futures = {}
        descriptor = c.c_int()
        _must(_library.warm_completion_fd(client._handle, c.byref(descriptor)))
        self._descriptor = descriptor.value
        self._loop.add_reader(self._descriptor, self._harvest)
        self._harvest()  # finds nothing, and arms the descriptor

    def close(self):
        self._loop.remove_reader(self._descriptor)

    async def put(self, id, embedding, content=None, **fields):
        """Like Client.put; the loop goes on meanwhile."""
        async with self._room:
            future = self._loop.create_future()
            self._futures[self._client.submit(id, embedding, content, **fields)] = future
            result = await future
        if result.code != OK:
            raise Error(result.code, _library.warm_strerror(result.code).decode())
        return result.sequence

    def _harvest(self):
        done = (_Completion * 64)()
        count = c.c_size_t(1)
        while count.value > 0:
            _must(_library.warm_completions(self._client._handle, done, c.c_size_t(len(done)), c.byref(count)))
            for completion in done[:count.value]:
                future = self._futures.pop(completion.ticket)
                if not future.done():
                    future.set_result(_Result.from_buffer_copy(completion.result))
