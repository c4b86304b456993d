/* SPDX-License-Identifier: Apache-2.0
 *
 * warmtier: a host-local store of memories, read in place by any number of processes.
 *
 * Conventions
 *  1. Calls return 0 (WARM_OK) or a negative WARM_E_* code; each call lists the codes it may return. warm_last_error() gives a
 *     sentence with the value that was wrong and the value that would be right.
 *  2. Structs that the caller fills start with `struct_bytes`; the *_INIT macros set it. Structs that the library fills take it
 *     the same way. A library knows every older size. Reserved fields are zero and checked.
 *  3. ids, embeddings and content are (pointer, length): any bytes, no terminating zero is needed or added.
 *  4. Outputs are named `ret_...` and are untouched when a call fails.
 *  5. All times are nanoseconds since 1970-01-01T00:00:00Z; all deadlines are relative, in milliseconds.
 *  6. Functions are thread-safe unless their comment says otherwise. None is async-signal-safe. Threads must not be cancelled
 *     (pthread_cancel) inside a call.
 *
 * Caveats
 *  1. A view keeps its record's slot, and the disk space of the file that its content lies in, until it is released, also in a
 *     stopped process. Other records are replaced and removed freely meanwhile.
 *  2. fork(): the child may go on using the client; it attaches by itself at its first call. Views from before the fork belong
 *     to the parent: in the child they are WARM_E_STALE, and releasing them there does nothing. A vfork() child must not call.
 *     exec() ends no session: views of before it keep their slots until the process ends. Close, or release, before it.
 *  3. The daemon restarts: reads go on; views stay what they were; writes wait up to their deadline. Without a daemon work at
 *     once: get, get_many, get_copy, scalars_get, exists, view_check, release, recall, cursors, count, chunks, sequence_get,
 *     changes, info_get; touch too, as a hint that may be lost. They work with what was visible last. Wait for a daemon up to
 *     their deadline: put, remove, update, clear and their many and submit forms, wait, checkpoint (where something is not
 *     durable yet), sessions, stats_get; and a read whose record lies in a segment file that this client has not mapped yet.
 *     warm_open does not wait for a daemon that is not there.
 *     A process that was attached when the daemon ended, and makes no call afterwards, holds up the whole store: until its next
 *     read or write, or its end, no slot that was used before is used again, for nobody knows its views (warm_stats.orphans).
 *     A service manager that keeps descriptors (the units) or orphan_grace_s (warmtierd.conf(5)) spare the store this wait.
 *  4. WARM_E_BUSY and WARM_E_UNAVAILABLE mean "certainly not carried out"; WARM_E_UNKNOWN means "published, no answer". Such a
 *     request is still on its way: it may be carried out at any later time, by the next daemon too, after requests that began
 *     later, also of the same thread, and after its process has ended. That the store does not show it is no proof that it will
 *     not come. Whoever must know submits it: a ticket outlives the deadline and gets the answer. Whoever must not be overtaken
 *     by a late request of his own makes all of them with WARM_IF_SEQUENCE: of puts and removes for one sequence one is carried
 *     out at most, and nothing once the record has another. An update leaves the record's sequence as it is and so keeps no later
 *     request out: whoever must not lose one puts the record anew. Unknown stays unknown after a power cut.
 *  5. A socket's path is not a store: a restored backup, or another directory behind the same path, is another one, with
 *     sequences of its own. Whoever keeps a sequence keeps store_id (warm_info_get) with it. When a daemon that was stopped in
 *     order is followed by one of another store, reads notice (one get in 64 of a thread looks, ten times a second at most, and
 *     takes 20 ms at most for it); when it was killed, only the next call that needs a daemon does. Views of the old store then
 *     keep what they show, and are WARM_E_STALE in warm_view_check.
 *  6. An operation acknowledged as visible survives the death of any process, the daemon included; a power cut takes it back
 *     unless a checkpoint came after it.
 *  7. Reads return the daemon's own memory, mapped read-only. A failing disk may signal (SIGBUS) on a page that is not resident;
 *     WARM_COPY reads through the kernel, which says WARM_E_CORRUPT instead.
 *  8. Data of one user is protected from other users by the kernel. Processes of one user can harm each other.
 *  9. A client costs its process three descriptors, and three more from warm_completion_fd on; it costs the daemon three.
 */
#ifndef WARMTIER_WARMTIER_H
#define WARMTIER_WARMTIER_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define WARM_EXPORT __attribute__((visibility("default")))
#else
#define WARM_EXPORT
#endif
#ifdef __cplusplus
#define WARM_NOEXCEPT noexcept
extern "C" {
#else
#define WARM_NOEXCEPT
#endif

/* The closed table of results. */
#define WARM_OK 0
#define WARM_E_INVALID (-1)      /* an argument is not valid: null, bad flag, NaN or infinity, wrong dimensions */
#define WARM_E_NOT_FOUND (-2)    /* no record has this id; it was true at a moment of the call */
#define WARM_E_EXISTS (-3)       /* condition WARM_IF_ABSENT: a record with this id exists */
#define WARM_E_CHANGED (-4)      /* condition WARM_IF_SEQUENCE: the record has another sequence, or there is none */
#define WARM_E_BUSY (-5)         /* not carried out before the deadline, certainly; warm_close: something is still held */
#define WARM_E_UNAVAILABLE (-6)  /* the daemon cannot be reached before the deadline; certainly not carried out */
#define WARM_E_UNKNOWN (-7)      /* published, but no answer came before the deadline: it may or may not be carried out */
#define WARM_E_FULL (-8)         /* no free slot, index cell or disk space; the message says who holds dead slots */
#define WARM_E_LIMIT (-9)        /* a limit is exceeded; the message names value and limit */
#define WARM_E_CORRUPT (-10)     /* stored bytes failed a check; never reported as absent */
#define WARM_E_UNSUPPORTED (-11) /* not supported by this daemon, kernel or processor */
#define WARM_E_VERSION (-12)     /* library and daemon, or daemon and store, speak different versions */
#define WARM_E_ACCESS (-13)      /* not permitted, or not any more: trying again does not help */
#define WARM_E_NOMEM (-14)       /* out of memory or address space */
#define WARM_E_SYSTEM (-15)      /* a system call failed; the message names it */
#define WARM_E_STALE (-16)       /* the view or ticket is from before a fork, or of a session that is over; it means nothing */
#define WARM_E_GONE (-17)        /* the changes asked for are not remembered, or were never made here: walk the store anew */

/* Limits. */
#define WARM_ID_BYTES_MAX 1024u           /* an id has 1 to this many bytes */
#define WARM_DIMENSIONS_MAX 4096u         /* an embedding has 1 to this many dimensions, fixed per store */
#define WARM_CONTENT_BYTES_MAX 4294967295u /* 4 GiB - 1; the daemon's configuration sets a lower cap (64 MiB by default) */
#define WARM_VIEWS_MAX 65536u             /* views that a client may hold at most; warm_info.views_max: this client */
#define WARM_TICKETS_MAX 256u             /* tickets that one client may have open */

#define WARM_TIMEOUT_MS_DEFAULT 5000u

typedef struct warm_client warm_client;

/* ---- Options, open, close ------------------------------------------------------------------------------------------ */

typedef struct warm_options {
  uint32_t struct_bytes; /* WARM_OPTIONS_INIT sets it */
  uint32_t timeout_ms;   /* deadline of every call that can wait; 0: WARM_TIMEOUT_MS_DEFAULT; UINT32_MAX: for ever */
  const char *socket;    /* path of the daemon's socket; NULL: $WARMTIER_SOCKET. What is named is the only place tried; where
                            neither is set (empty: not set): the first one that is there of /run/warmtier/sock and
                            $XDG_RUNTIME_DIR/warmtier.sock */
  uint64_t reserved[6];  /* zero */
} warm_options;

#define WARM_OPTIONS_INIT \
  { sizeof(warm_options), 0, NULL, { 0, 0, 0, 0, 0, 0 } }

/* Opens a client: connects to the daemon and maps its store read-only. `options` may be NULL. It does not wait for a daemon
 * that is not there: where nobody listens it says so at once. One that goes away while it attaches is awaited, as by every other
 * call.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_UNAVAILABLE (the message names the paths tried), WARM_E_VERSION, WARM_E_ACCESS,
 *           WARM_E_LIMIT (the daemon has no session left for this user: of (LimitNOFILE - 256) / 3 a user other than the daemon's
 *           own may have a half; or too few views: his sessions share a half of the store's slots, less what other users' were
 *           granted; or RLIMIT_NOFILE of this process is too small), WARM_E_UNSUPPORTED (processor without AVX; process without a
 *           robust list), WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: the client lives until warm_close. Its memory maps stay for the life of the process.
 * Threads:  any thread; the client may be used by all threads at once.
 * Blocks:   while the daemon that listens is starting, busy or just died: up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_open(const warm_options *options, warm_client **ret_client) WARM_NOEXCEPT;

/* Ends the session and frees the client. NULL is allowed and does nothing.
 * Returns:  WARM_OK; WARM_E_BUSY while views are held, or cursors, chunks or recalls open (the message says how many): nothing is
 *           closed then.
 * Lifetime: `client` must not be used afterwards. Open tickets are over; what they asked for is carried out.
 * Threads:  no other call on this client may be running.
 * Blocks:   no, unless the daemon was replaced since the last call that needed it: then up to a fifth of a second, to tell the
 *           new one.
 * Since:    0.1 */
WARM_EXPORT int warm_close(warm_client *client) WARM_NOEXCEPT;

typedef struct warm_info {
  uint32_t struct_bytes;        /* WARM_INFO_INIT sets it */
  uint32_t dimensions;          /* of every embedding in this store */
  uint32_t row_bytes;           /* an embedding row: dimensions * 4 rounded up to 64, padded with zeros */
  uint32_t views_max;           /* views that this client may hold: the daemon grants so many when the session begins, and
                                   they stay granted over restarts. WARM_VIEWS_MAX for the daemon's own user; for others
                                   a part of that user's share, 64 at least unless the share itself is small */
  uint64_t capacity;            /* slots: see WARM_E_FULL at warm_put */
  uint64_t content_bytes_max;   /* the daemon's configured cap */
  uint8_t store_id[16];         /* random, set when the store was made */
  uint64_t session;             /* number of this client's session in use; never repeats in a store */
  uint32_t daemon_pid;          /* as the daemon sees itself */
  uint32_t reserved;
} warm_info;

#define WARM_INFO_INIT \
  { sizeof(warm_info), 0, 0, 0, 0, 0, { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 0, 0, 0 }

/* What this client is attached to.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_UNAVAILABLE (in a fork child that cannot attach), WARM_E_ACCESS.
 * Lifetime: values are copied.
 * Threads:  any.
 * Blocks:   no, but in a fork child up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_info_get(warm_client *client, warm_info *ret_info) WARM_NOEXCEPT;

/* ---- Writing ------------------------------------------------------------------------------------------------------- */

/* Conditions of a put, remove or update. A record's sequence is that of the put that made it. */
#define WARM_IF_ANY 0u      /* always */
#define WARM_IF_ABSENT 1u   /* put only: no record has this id; else WARM_E_EXISTS */
#define WARM_IF_SEQUENCE 2u /* the record's sequence is `if_sequence`; else WARM_E_CHANGED */

/* Flags of a put or remove. */
#define WARM_DURABLE 1u /* acknowledge when it survives power loss: refused (WARM_E_UNSUPPORTED) until the store has a log */

/* Which of the optional fields of warm_memory are given. */
#define WARM_GIVEN_CONTENT 1u     /* content, content_bytes; without it they must be NULL and 0, and the content is absent, which
                                     is not "empty" */
#define WARM_GIVEN_CREATED 2u     /* created_ns; else the daemon's clock (a replace keeps the old record's time) */
#define WARM_GIVEN_LAST_ACCESS 4u /* last_access_ns; else the daemon's clock */

/* One memory, as the caller gives it. */
typedef struct warm_memory {
  uint32_t struct_bytes;     /* WARM_MEMORY_INIT sets it */
  uint32_t given;            /* WARM_GIVEN_* */
  const void *id;            /* 1 to WARM_ID_BYTES_MAX bytes, any values */
  size_t id_bytes;
  const float *embedding;    /* `dimensions` finite values */
  uint32_t dimensions;       /* must be the store's */
  uint32_t condition;        /* WARM_IF_* */
  uint64_t if_sequence;      /* for WARM_IF_SEQUENCE */
  const void *content;       /* content_bytes bytes; may be NULL when content_bytes is 0 */
  size_t content_bytes;
  uint64_t created_ns;
  uint64_t last_access_ns;
  float confidence;          /* finite */
  float activation;          /* finite */
  float decay_rate;          /* finite */
  uint32_t recall_count;
  uint32_t flags;            /* WARM_DURABLE */
  uint32_t reserved32;
  uint64_t reserved[4];
} warm_memory;

#define WARM_MEMORY_INIT \
  { sizeof(warm_memory), 0, NULL, 0, NULL, 0, 0, 0, NULL, 0, 0, 0, 1.0f, 0.0f, 0.0f, 0, 0, 0, { 0, 0, 0, 0 } }

/* Stores a memory under its id, replacing what was there, if the condition holds. When it returns WARM_OK every process sees
 * it. `ret_sequence` (may be NULL) receives the operation's sequence, which rises with every change of the store. Each put takes
 * a free slot, a replace too: the old record's slot is free again after the next checkpoint, once no view holds it. So a store
 * holds `capacity` live records less what was replaced or removed and is held by views or waits for a checkpoint.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_EXISTS, WARM_E_CHANGED, WARM_E_BUSY, WARM_E_UNAVAILABLE, WARM_E_UNKNOWN,
 *           WARM_E_FULL, WARM_E_LIMIT, WARM_E_UNSUPPORTED, WARM_E_ACCESS, WARM_E_CORRUPT, WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: everything is copied before it returns.
 * Threads:  any. Puts of several threads run side by side; a put that starts after another was answered comes later. One that
 *           returned WARM_E_UNKNOWN was not answered: caveat 4.
 * Blocks:   up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_put(warm_client *client, const warm_memory *memory, uint64_t *ret_sequence) WARM_NOEXCEPT;

/* Removes the memory with this id, if the condition (WARM_IF_ANY or WARM_IF_SEQUENCE) holds. Views of it stay what they are.
 * Returns:  WARM_OK, WARM_E_NOT_FOUND, WARM_E_CHANGED, WARM_E_INVALID, WARM_E_BUSY, WARM_E_UNAVAILABLE, WARM_E_UNKNOWN,
 *           WARM_E_LIMIT, WARM_E_UNSUPPORTED (WARM_DURABLE), WARM_E_ACCESS, WARM_E_CORRUPT, WARM_E_SYSTEM.
 * Lifetime: the id is copied before it returns. `ret_sequence` may be NULL.
 * Threads:  any.
 * Blocks:   up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_remove(warm_client *client, const void *id, size_t id_bytes, uint32_t condition, uint64_t if_sequence,
                            uint32_t flags, uint64_t *ret_sequence) WARM_NOEXCEPT;

/* ---- Scalars and use -------------------------------------------------------------------------------------------------- */

/* Which scalars an update sets. */
#define WARM_SET_CONFIDENCE 1u
#define WARM_SET_ACTIVATION 2u
#define WARM_SET_DECAY_RATE 4u
#define WARM_SET_RECALL_COUNT 8u
#define WARM_SET_LAST_ACCESS 16u

typedef struct warm_update {
  uint32_t struct_bytes;   /* WARM_UPDATE_INIT sets it */
  uint32_t set;            /* WARM_SET_*, at least one; the others stay as they are */
  const void *id;
  size_t id_bytes;
  uint32_t condition;      /* WARM_IF_ANY or WARM_IF_SEQUENCE */
  uint32_t flags;          /* WARM_DURABLE */
  uint64_t if_sequence;    /* for WARM_IF_SEQUENCE */
  float confidence;        /* finite */
  float activation;        /* finite */
  float decay_rate;        /* finite */
  uint32_t recall_count;
  uint64_t last_access_ns;
  uint64_t reserved[4];
} warm_update;

#define WARM_UPDATE_INIT \
  { sizeof(warm_update), 0, NULL, 0, 0, 0, 0, 0.0f, 0.0f, 0.0f, 0, 0, { 0, 0, 0, 0 } }

/* Sets scalars of the memory with this id in place, if the condition holds. The four of confidence, activation, decay rate and
 * recall count change together: nobody sees some of them new and some old; the time of last access may be seen a moment later.
 * The record keeps its sequence, so views of it stay current; the update has a sequence of its own (`ret_sequence`, may be NULL)
 * and is a change like any other.
 * Returns:  WARM_OK, WARM_E_NOT_FOUND, WARM_E_CHANGED, WARM_E_INVALID (also: a scalar that is set is not finite), WARM_E_BUSY,
 *           WARM_E_UNAVAILABLE, WARM_E_UNKNOWN, WARM_E_LIMIT, WARM_E_UNSUPPORTED (WARM_DURABLE), WARM_E_ACCESS, WARM_E_CORRUPT,
 *           WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: the id is copied before it returns.
 * Threads:  any.
 * Blocks:   up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_update_scalars(warm_client *client, const warm_update *update, uint64_t *ret_sequence) WARM_NOEXCEPT;

/* Removes every memory. The caller must be allowed to administer the store. Others go on meanwhile: what is put while it runs may
 * stay or go. `ret_removed` (may be NULL) receives how many it removed; when the daemon was restarted under it, how many since.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_ACCESS, WARM_E_BUSY, WARM_E_UNAVAILABLE, WARM_E_UNKNOWN (it goes on), WARM_E_LIMIT,
 *           WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: nothing is kept. Views of what is removed stay what they are.
 * Threads:  any.
 * Blocks:   up to the deadline; some 100 ns for each memory.
 * Since:    0.1 */
WARM_EXPORT int warm_clear(warm_client *client, uint64_t *ret_removed) WARM_NOEXCEPT;

/* ---- Writing many ---------------------------------------------------------------------------------------------------- */

/* One id of a list. */
typedef struct warm_id {
  const void *data;
  size_t bytes;
} warm_id;

/* What became of one request. */
typedef struct warm_result {
  int32_t code;      /* what the call for one would have returned; warm_strerror says it in words */
  uint32_t reserved; /* zero */
  uint64_t sequence; /* of the operation; with WARM_E_EXISTS and WARM_E_CHANGED of the record that was in the way, 0: none */
} warm_result;

/* Stores many memories, in order: each is carried out after the one before it, and what one of them is refused for does not keep
 * the others. They are not one transaction: others see them come one by one. `ret_results` receives one result each. When an
 * answer does not come before the deadline, which starts anew with each answer, its result is WARM_E_UNKNOWN; what was not
 * handed in by then is not tried: WARM_E_BUSY or WARM_E_UNAVAILABLE.
 * Returns:  WARM_OK: every memory has a result, look at each; WARM_E_INVALID, WARM_E_UNAVAILABLE, WARM_E_ACCESS, WARM_E_NOMEM,
 *           WARM_E_SYSTEM: nothing was carried out. A result's codes are those of warm_put.
 * Lifetime: everything is copied before it returns.
 * Threads:  any. Calls of several threads run side by side, each in its own order.
 * Blocks:   until all is answered.
 * Since:    0.1 */
WARM_EXPORT int warm_put_many(warm_client *client, const warm_memory *memories, size_t count, warm_result *ret_results)
    WARM_NOEXCEPT;

/* Says that these memories were used: a moment later, when the daemon has time, each has a recall count higher by one (it stays
 * at UINT32_MAX) and the daemon's time as its last access. A hint, not a change: it has no sequence, views show it only when they
 * are taken anew, and it may be dropped when the daemon does not keep up, or dies. `ret_taken` (may be NULL) receives how many
 * were handed over: ids of nothing are not, nor what was dropped here. Drops are counted (warm_stats.touches_dropped).
 * Returns:  WARM_OK, WARM_E_INVALID and WARM_E_LIMIT (an id is too long): nothing was handed over; WARM_E_ACCESS,
 *           WARM_E_UNAVAILABLE, WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: nothing is kept.
 * Threads:  any.
 * Blocks:   no, unless the daemon restarts: like warm_get.
 * Since:    0.1 */
WARM_EXPORT int warm_touch(warm_client *client, const warm_id *ids, size_t count, size_t *ret_taken) WARM_NOEXCEPT;

/* Removes many memories, in order, as warm_put_many stores them. `flags` as of warm_remove.
 * Returns:  WARM_OK: every id has a result, look at each; WARM_E_INVALID, WARM_E_UNAVAILABLE, WARM_E_UNSUPPORTED (WARM_DURABLE),
 *           WARM_E_ACCESS, WARM_E_NOMEM, WARM_E_SYSTEM: nothing was carried out. A result's codes are those of warm_remove.
 * Lifetime: the ids are copied before it returns.
 * Threads:  any.
 * Blocks:   until all is answered.
 * Since:    0.1 */
WARM_EXPORT int warm_remove_many(warm_client *client, const warm_id *ids, size_t count, uint32_t flags, warm_result *ret_results)
    WARM_NOEXCEPT;

/* ---- Tickets: writing without waiting ---------------------------------------------------------------------------------
 *
 * A submit hands a request in and returns a ticket. What was handed in is carried out by the daemon whether or not anybody asks
 * for the answer. Tickets that are open at the same time have no order among themselves; what is submitted after an answer was
 * seen comes later. An open ticket costs nothing in the store; it outlives the daemon like a put that waits. Each is harvested
 * once, by whichever of wait, poll and completions comes first. */

typedef uint64_t warm_ticket;

typedef struct warm_completion {
  warm_ticket ticket;
  warm_result result;
} warm_completion;

/* Hands in a put, like warm_put, and does not wait for its answer.
 * Returns:  WARM_OK, WARM_E_LIMIT (also: WARM_TICKETS_MAX are open), and what of warm_put's codes is known before the request
 *           goes out: WARM_E_INVALID, WARM_E_BUSY, WARM_E_UNAVAILABLE, WARM_E_UNSUPPORTED, WARM_E_ACCESS, WARM_E_NOMEM,
 *           WARM_E_SYSTEM. After any of them nothing is carried out and there is no ticket.
 * Lifetime: everything is copied before it returns. The ticket is open until it is harvested, or the client closed.
 * Threads:  any; another thread may harvest.
 * Blocks:   only while every lane to the daemon is full or the daemon is away; up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_put_submit(warm_client *client, const warm_memory *memory, warm_ticket *ret_ticket) WARM_NOEXCEPT;

/* Hands in a removal, like warm_remove.
 * Returns:  as warm_put_submit.
 * Lifetime: as warm_put_submit.
 * Threads:  any; another thread may harvest.
 * Blocks:   as warm_put_submit.
 * Since:    0.1 */
WARM_EXPORT int warm_remove_submit(warm_client *client, const void *id, size_t id_bytes, uint32_t condition, uint64_t if_sequence,
                                   uint32_t flags, warm_ticket *ret_ticket) WARM_NOEXCEPT;

/* Hands in an update, like warm_update_scalars.
 * Returns:  as warm_put_submit.
 * Lifetime: as warm_put_submit.
 * Threads:  any; another thread may harvest.
 * Blocks:   as warm_put_submit.
 * Since:    0.1 */
WARM_EXPORT int warm_update_submit(warm_client *client, const warm_update *update, warm_ticket *ret_ticket) WARM_NOEXCEPT;

/* Waits for a ticket's answer and harvests it. `timeout_ms` 0 looks once, UINT32_MAX waits for ever.
 * Returns:  WARM_OK: harvested, `ret_result` says what became of the request (WARM_E_UNKNOWN when the daemon will never say);
 *           WARM_E_BUSY: no answer yet, the ticket is still open; WARM_E_INVALID (also: not open), WARM_E_STALE (from before a
 *           fork).
 * Lifetime: after WARM_OK the ticket is over.
 * Threads:  any. Of two that wait for one ticket one harvests it, the other gets WARM_E_INVALID.
 * Blocks:   up to `timeout_ms`, also while the daemon restarts.
 * Since:    0.1 */
WARM_EXPORT int warm_ticket_wait(warm_client *client, warm_ticket ticket, uint32_t timeout_ms, warm_result *ret_result)
    WARM_NOEXCEPT;

/* Harvests a ticket if its answer is there. No system call is made unless the daemon has restarted.
 * Returns:  as warm_ticket_wait.
 * Lifetime: after WARM_OK the ticket is over.
 * Threads:  any.
 * Blocks:   no; when the daemon has restarted until it is attached to again, a second at most.
 * Since:    0.1 */
WARM_EXPORT int warm_ticket_poll(warm_client *client, warm_ticket ticket, warm_result *ret_result) WARM_NOEXCEPT;

/* Harvests up to `max` tickets whose answers are there, in any order. `ret_count` 0: there is none; that call arms the
 * descriptor of warm_completion_fd.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: the tickets harvested are over.
 * Threads:  any.
 * Blocks:   no; while the daemon restarts some ten milliseconds at most.
 * Since:    0.1 */
WARM_EXPORT int warm_completions(warm_client *client, warm_completion *ret_completions, size_t max, size_t *ret_count)
    WARM_NOEXCEPT;

/* A descriptor for epoll, poll or asyncio. It is readable when a ticket may be finished: call warm_completions until it gives
 * none, then wait for the descriptor again. It may be readable without a finished ticket.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: the library's: neither read nor close it. The same one until warm_close, also over restarts of the daemon; a forked
 *           child asks for its own. A process that closes all its descriptors must not use it any more.
 * Threads:  any.
 * Blocks:   no.
 * Since:    0.1 */
WARM_EXPORT int warm_completion_fd(warm_client *client, int *ret_fd) WARM_NOEXCEPT;

/* ---- Reading ------------------------------------------------------------------------------------------------------- */

#define WARM_CONTENT_ABSENT 0u
#define WARM_CONTENT_PRESENT 1u

/* A stable picture of one record: scalars as they were, pointers into the daemon's own memory, mapped read-only. */
typedef struct warm_view {
  uint32_t struct_bytes;     /* WARM_VIEW_INIT sets it */
  uint32_t content_state;    /* WARM_CONTENT_* */
  const void *id;
  const float *embedding;    /* `dimensions` values on a 64-byte boundary, zeros up to a multiple of 16 */
  const void *content;       /* content_bytes bytes; NULL when absent; not NULL when empty */
  uint64_t content_bytes;
  uint32_t id_bytes;
  uint32_t dimensions;
  uint64_t sequence;         /* of the put that made this record */
  uint64_t created_ns;
  uint64_t last_access_ns;
  float confidence;
  float activation;
  float decay_rate;
  uint32_t recall_count;
  uint64_t internal[6];      /* the library's; copy a view only with all of it, and release it once */
} warm_view;

#define WARM_VIEW_INIT \
  { sizeof(warm_view), 0, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0.0f, 0.0f, 0.0f, 0, { 0, 0, 0, 0, 0, 0 } }

/* Flags of a read. */
#define WARM_VERIFY 1u /* check id, embedding and content against their checksums now: WARM_E_CORRUPT if they do not match */
#define WARM_COPY 2u   /* read through the kernel into memory of the view's own: a failing disk is an error and not a signal */

/* Gets a view of the memory with this id into a view that holds none: one that was filled before is released first
 * (WARM_E_INVALID). No system call is made unless the daemon has stopped or restarted, or a new segment must be mapped. Structure
 * and id are checked; the payload's checksum is not, unless WARM_VERIFY asks for it. With WARM_COPY the view holds no slot back
 * (it counts as one of warm_info.views_max); attaching to a daemon reads in place all the same.
 * Returns:  WARM_OK, WARM_E_NOT_FOUND, WARM_E_INVALID, WARM_E_BUSY, WARM_E_UNAVAILABLE, WARM_E_ACCESS, WARM_E_LIMIT
 *           (warm_info.views_max), WARM_E_CORRUPT (with the id in the message), WARM_E_UNSUPPORTED (WARM_COPY where the kernel
 *           forbids process_vm_readv), WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: the view and everything it points to live until warm_release; the record may be replaced or removed meanwhile.
 * Threads:  any. A view may be read by all threads and released by any one of them.
 * Blocks:   no, unless the daemon restarts: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_get(warm_client *client, const void *id, size_t id_bytes, uint32_t flags,
                         warm_view *ret_view) WARM_NOEXCEPT;

/* Gets many: `ret_codes[i]` is what warm_get would return for ids[i], and `ret_views[i]` is filled where that is WARM_OK. Ids are
 * worked off in groups of 64, whose waits for memory overlap: several times cheaper than so many gets.
 * Returns:  WARM_OK when every id has a code; WARM_E_INVALID before anything was read (also: a view of them is held).
 *           warm_last_error() speaks of the last id that failed otherwise than by WARM_E_NOT_FOUND.
 * Lifetime: as in warm_get, each view by itself.
 * Threads:  any.
 * Blocks:   no, unless the daemon restarts: then up to the deadline, once for all ids.
 * Since:    0.1 */
WARM_EXPORT int warm_get_many(warm_client *client, const warm_id *ids, size_t count, uint32_t flags, warm_view *ret_views,
                              int32_t *ret_codes) WARM_NOEXCEPT;

/* A record in the caller's own memory, for callers that cannot hold a view. Rooms that are NULL are not filled. */
typedef struct warm_copy {
  uint32_t struct_bytes;       /* WARM_COPY_INIT sets it */
  uint32_t content_state;      /* out: WARM_CONTENT_* */
  float *embedding;            /* in: room for embedding_capacity floats */
  void *content;               /* in: room for content_capacity bytes */
  uint64_t content_capacity;   /* in */
  uint32_t embedding_capacity; /* in */
  uint32_t dimensions;         /* out, like all that follow */
  uint64_t content_bytes;      /* of the record, also when it does not fit */
  uint64_t sequence;
  uint64_t created_ns;
  uint64_t last_access_ns;
  float confidence;
  float activation;
  float decay_rate;
  uint32_t recall_count;
  uint64_t reserved[4];        /* zero */
} warm_copy;

#define WARM_COPY_INIT \
  { sizeof(warm_copy), 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0.0f, 0.0f, 0.0f, 0, { 0, 0, 0, 0 } }

/* Copies the memory with this id. `flags`: WARM_VERIFY, WARM_COPY. Takes no pin and none of warm_info.views_max.
 * Returns:  WARM_OK; WARM_E_LIMIT when a room is too small: then `dimensions` and `content_bytes` say what it takes, the scalars
 *           are filled and the rooms are untouched; else the codes of warm_get. After these what the rooms hold is undefined.
 * Lifetime: everything is copied.
 * Threads:  any.
 * Blocks:   no, unless the daemon restarts: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_get_copy(warm_client *client, const void *id, size_t id_bytes, uint32_t flags,
                              warm_copy *copy) WARM_NOEXCEPT;

/* What a record says of itself, without embedding and content. */
typedef struct warm_scalars {
  uint32_t struct_bytes;       /* WARM_SCALARS_INIT sets it */
  uint32_t content_state;      /* WARM_CONTENT_* */
  uint64_t content_bytes;
  uint64_t sequence;
  uint64_t created_ns;
  uint64_t last_access_ns;
  float confidence;
  float activation;
  float decay_rate;
  uint32_t recall_count;
  uint64_t reserved[4];        /* zero */
} warm_scalars;

#define WARM_SCALARS_INIT \
  { sizeof(warm_scalars), 0, 0, 0, 0, 0, 0.0f, 0.0f, 0.0f, 0, { 0, 0, 0, 0 } }

/* Gets the scalars of the memory with this id. Takes no pin; the embedding is not touched. It does not count as a get.
 * Returns:  WARM_OK, WARM_E_NOT_FOUND, WARM_E_INVALID, WARM_E_BUSY, WARM_E_UNAVAILABLE, WARM_E_ACCESS, WARM_E_LIMIT (of the id),
 *           WARM_E_CORRUPT, WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: values are copied, all of one moment.
 * Threads:  any.
 * Blocks:   no, unless the daemon restarts: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_scalars_get(warm_client *client, const void *id, size_t id_bytes, warm_scalars *ret_scalars) WARM_NOEXCEPT;

/* Releases a view. A view that was released, or was never filled, is left alone; so is a view from before a fork.
 * Returns:  WARM_OK, WARM_E_INVALID.
 * Lifetime: the view's pointers must not be used afterwards; the struct may be used again.
 * Threads:  any, but one view is released by one thread.
 * Blocks:   no.
 * Since:    0.1 */
WARM_EXPORT int warm_release(warm_client *client, warm_view *view) WARM_NOEXCEPT;

#define WARM_VIEW_CURRENT 0u  /* the record is what the id names now */
#define WARM_VIEW_REPLACED 1u /* the id names a newer record */
#define WARM_VIEW_REMOVED 2u  /* the id names nothing */

/* Says whether the store still holds what a view shows. `ret_state` receives WARM_VIEW_*.
 * Returns:  WARM_OK, WARM_E_STALE (from before a fork; or the daemon did not take this client's pins back, because it serves
 *           another store, for one), WARM_E_INVALID, WARM_E_BUSY, WARM_E_UNAVAILABLE, WARM_E_ACCESS, WARM_E_CORRUPT,
 *           WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: the view is unchanged.
 * Threads:  any.
 * Blocks:   like warm_get.
 * Since:    0.1 */
WARM_EXPORT int warm_view_check(warm_client *client, const warm_view *view, uint32_t *ret_state) WARM_NOEXCEPT;

/* Asks whether a record with this id is there; makes no view.
 * Returns:  WARM_OK, WARM_E_NOT_FOUND, WARM_E_INVALID, WARM_E_LIMIT (the id is too long), WARM_E_BUSY, WARM_E_UNAVAILABLE,
 *           WARM_E_ACCESS, WARM_E_CORRUPT, WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: nothing is kept.
 * Threads:  any.
 * Blocks:   like warm_get.
 * Since:    0.1 */
WARM_EXPORT int warm_exists(warm_client *client, const void *id, size_t id_bytes) WARM_NOEXCEPT;

/* ---- Which records ------------------------------------------------------------------------------------------------- */

#define WARM_FILTER_CONTENT_ANY 0u
#define WARM_FILTER_CONTENT_PRESENT 1u
#define WARM_FILTER_CONTENT_ABSENT 2u

/* What a record must be like. Ranges are closed: min <= x <= max; WARM_FILTER_INIT accepts every record. A range whose min is
 * above its max, or a bound that is not a number, is WARM_E_INVALID. A call that takes a filter copies it, prefix included. */
typedef struct warm_filter {
  uint32_t struct_bytes;     /* WARM_FILTER_INIT sets it */
  uint32_t content;          /* WARM_FILTER_CONTENT_* */
  const void *id_prefix;     /* ids that begin with these bytes; may be NULL when id_prefix_bytes is 0 */
  size_t id_prefix_bytes;    /* up to WARM_ID_BYTES_MAX */
  float confidence_min, confidence_max;
  float activation_min, activation_max;
  float decay_rate_min, decay_rate_max;
  uint32_t recall_count_min, recall_count_max;
  uint64_t created_ns_min, created_ns_max;
  uint64_t last_access_ns_min, last_access_ns_max;
  uint64_t sequence_min, sequence_max;           /* of the put that made the record */
  uint64_t content_bytes_min, content_bytes_max; /* absent content has 0 */
  uint64_t reserved[4];      /* zero */
} warm_filter;

#define WARM_FILTER_INIT \
  { sizeof(warm_filter), 0, NULL, 0, -FLT_MAX, FLT_MAX, -FLT_MAX, FLT_MAX, -FLT_MAX, FLT_MAX, 0, UINT32_MAX, 0, UINT64_MAX, \
    0, UINT64_MAX, 0, UINT64_MAX, 0, UINT64_MAX, { 0, 0, 0, 0 } }

/* ---- Recall -------------------------------------------------------------------------------------------------------- */

/* How near a record is to a query. Higher is better for all of them. */
#define WARM_METRIC_COSINE 0u /* -1 to 1; 0 where one of the two is all zeros */
#define WARM_METRIC_DOT 1u    /* the sum of products */
#define WARM_METRIC_L2 2u     /* the Euclidean distance, negated: 0 is best */

/* What the metric's value is turned into. */
#define WARM_SCORE_SIMILARITY 0u /* nothing: it is the score */
#define WARM_SCORE_TIER 1u       /* value * tier_factor * 0.5^(days since created / half_life_days), and score_floor at least;
                                    a record made after now_ns has the age 0. Not with WARM_METRIC_L2 */

#define WARM_RECALL_MAX 65536u /* hits of one query; each is a view: see warm_info.views_max */

/* One query. */
typedef struct warm_query {
  uint32_t struct_bytes;     /* WARM_QUERY_INIT sets it */
  uint32_t hit_bytes;        /* size of a warm_hit; WARM_QUERY_INIT sets it */
  const float *embedding;    /* `dimensions` finite values */
  uint32_t dimensions;       /* must be the store's */
  uint32_t limit;            /* hits at most: 1 to WARM_RECALL_MAX */
  uint32_t metric;           /* WARM_METRIC_* */
  uint32_t scoring;          /* WARM_SCORE_* */
  float threshold;           /* only scores from here on; -FLT_MAX and below: all */
  float tier_factor;         /* for WARM_SCORE_TIER, as the next two; from 0 on */
  float half_life_days;      /* above 0 */
  float score_floor;
  uint64_t now_ns;           /* the moment that age is counted to; 0: the clock's */
  const warm_filter *filter; /* NULL: every record */
  uint32_t flags;            /* zero */
  uint32_t reserved32;
  uint64_t reserved[4];
} warm_query;

#define WARM_QUERY_INIT \
  { sizeof(warm_query), sizeof(warm_hit), NULL, 0, 10, 0, 0, -FLT_MAX, 0.95f, 3650.0f, 0.01f, 0, NULL, 0, 0, { 0, 0, 0, 0 } }

/* A record that was recalled. */
typedef struct warm_hit {
  warm_view view;            /* filled whatever stood in it */
  double score;              /* in double, the same on every processor */
} warm_hit;

/* What a recall looked at. */
typedef struct warm_recall_info {
  uint32_t struct_bytes;     /* WARM_RECALL_INFO_INIT sets it */
  uint32_t partial;          /* 1: so much changed meanwhile, twice, that a better record may have been missed */
  uint64_t scanned;          /* live records that were looked at */
  uint64_t matched;          /* of these, records that a filter let pass and whose embeddings were read */
  uint64_t rescored;         /* records that changed meanwhile and were scored again */
  uint64_t damaged;          /* records that were left out because stored bytes failed a check */
  uint64_t sequence;         /* every change up to this one is taken account of */
  const char *kernel;        /* "avx512", "avx2", "scalar": static */
  uint64_t reserved[4];
} warm_recall_info;

#define WARM_RECALL_INFO_INIT { sizeof(warm_recall_info), 0, 0, 0, 0, 0, 0, NULL, { 0, 0, 0, 0 } }

/* Finds the records with the best scores, exactly: all embeddings are looked at, and a record that is there throughout the
 * call is never missed. Hits come in order, best first, equal scores by the bytes of their ids; `ret_count` receives how many.
 * There must be room for `limit` of them in `ret_hits`. `ret_info` may be NULL.
 * Returns:  WARM_OK (also with no hit), WARM_E_INVALID (a NaN or infinity in the query, other dimensions than the store's),
 *           WARM_E_LIMIT (limit above WARM_RECALL_MAX, or not so many views left), WARM_E_BUSY, WARM_E_UNAVAILABLE,
 *           WARM_E_ACCESS, WARM_E_NOMEM, WARM_E_CORRUPT (a segment that records name is not in the store; single damaged records
 *           are counted and left out), WARM_E_SYSTEM.
 * Lifetime: each hit is a view: it lives until warm_hits_release or warm_release. The query is read before it returns.
 * Threads:  any. The library has no threads of its own: for more than one, see warm_recall_open.
 * Blocks:   no, unless the daemon restarts: then up to the deadline. It takes as long as reading all embeddings takes.
 * Since:    0.1 */
WARM_EXPORT int warm_recall(warm_client *client, const warm_query *query, warm_hit *ret_hits, size_t *ret_count,
                            warm_recall_info *ret_info) WARM_NOEXCEPT;

/* The same for many queries in one pass over memory. The hits of query i begin in `ret_hits` behind the room for those before
 * it: at the sum of their limits; `ret_counts[i]` receives how many there are. `ret_info` is about all of them: a record is
 * matched if one query's filter lets it pass.
 * Returns:  as warm_recall; WARM_E_INVALID for a count of 0. An error says nothing about single queries: no hit is returned.
 * Lifetime: as warm_recall.
 * Threads:  any.
 * Blocks:   as warm_recall.
 * Since:    0.1 */
WARM_EXPORT int warm_recall_many(warm_client *client, const warm_query *queries, size_t count, warm_hit *ret_hits,
                                 size_t *ret_counts, warm_recall_info *ret_info) WARM_NOEXCEPT;

/* Releases the views of hits. Those that were released before, alone or by this call, are left alone.
 * Returns:  WARM_OK, WARM_E_INVALID.
 * Lifetime: the hits' pointers must not be used afterwards.
 * Threads:  any, but one hit is released by one thread.
 * Blocks:   no.
 * Since:    0.1 */
WARM_EXPORT int warm_hits_release(warm_client *client, warm_hit *hits, size_t count) WARM_NOEXCEPT;

/* A recall on which several of the caller's threads work. */
typedef struct warm_recall_scan warm_recall_scan;

/* Begins one. From here on no record that is there throughout is missed.
 * Returns:  as warm_recall, without WARM_E_BUSY.
 * Lifetime: the scan lives until warm_recall_close; the queries are read before it returns. The client cannot be closed before.
 * Threads:  any.
 * Blocks:   no, unless the daemon restarts.
 * Since:    0.1 */
WARM_EXPORT int warm_recall_open(warm_client *client, const warm_query *queries, size_t count,
                                 warm_recall_scan **ret_scan) WARM_NOEXCEPT;

/* Does a share: takes 1024 records at a time that no other thread has taken, and returns when there are none left to take.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_STALE (the scan is from before a fork), WARM_E_NOMEM.
 * Lifetime: nothing is kept.
 * Threads:  any number at once; none is as good as one.
 * Blocks:   no.
 * Since:    0.1 */
WARM_EXPORT int warm_recall_work(warm_recall_scan *scan) WARM_NOEXCEPT;

/* Does what is left to do, gives the hits as warm_recall_many does, and frees the scan, also when it fails. With NULL for
 * `ret_hits` it only frees it.
 * Returns:  as warm_recall; WARM_E_STALE.
 * Lifetime: `scan` must not be used afterwards, unless WARM_E_INVALID was returned.
 * Threads:  no other thread may be in a call with this scan.
 * Blocks:   as warm_recall.
 * Since:    0.1 */
WARM_EXPORT int warm_recall_close(warm_recall_scan *scan, warm_hit *ret_hits, size_t *ret_counts,
                                  warm_recall_info *ret_info) WARM_NOEXCEPT;
/* ---- Order and change ---------------------------------------------------------------------------------------------- */

/* The sequence of the last change that every process sees. It is not below that of any call that returned before.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_UNAVAILABLE (another daemon has come and cannot be reached), WARM_E_ACCESS.
 * Lifetime: the value is copied.
 * Threads:  any.
 * Blocks:   no; no system call is made unless the daemon has restarted: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_sequence_get(warm_client *client, uint64_t *ret_sequence) WARM_NOEXCEPT;

/* Waits until a change later than `after` is visible; `ret_sequence` (may be NULL) receives the sequence of the last one.
 * `timeout_ms` is this call's own: 0 is one look, UINT32_MAX is for ever. An `after` that lies ahead is waited for all the same.
 * Neither a restart of the daemon ends a wait nor a signal: whoever must stop soon waits in short steps. When another store's
 * daemon has come, `after` is held against that one's sequences: caveat 5.
 * Returns:  WARM_OK; WARM_E_BUSY: nothing later was visible before the deadline; WARM_E_UNAVAILABLE: nor was there a daemon;
 *           WARM_E_ACCESS; WARM_E_INVALID, WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: nothing is kept.
 * Threads:  any; each thread waits by itself.
 * Blocks:   up to timeout_ms, asleep.
 * Since:    0.1 */
WARM_EXPORT int warm_wait(warm_client *client, uint64_t after, uint32_t timeout_ms, uint64_t *ret_sequence) WARM_NOEXCEPT;

#define WARM_CHANGE_PUT 1u     /* a record with a new id */
#define WARM_CHANGE_REPLACE 2u /* a record in the place of an earlier one with this id */
#define WARM_CHANGE_REMOVE 3u
#define WARM_CHANGE_UPDATE 4u /* scalars of a record; its own sequence stays */
#define WARM_CHANGE_MOVE 5u   /* the record is the same, in another place */

typedef struct warm_change {
  uint64_t sequence; /* of the operation */
  uint32_t kind;     /* WARM_CHANGE_* */
  uint32_t id_bytes;
  const void *id; /* lies in the memory that the call was given */
} warm_change;

/* Says what changed after the change `after`, in order and without a gap: up to `changes` of them, fewer when the ids do not fit
 * or when no more were made. `change_bytes` is sizeof(warm_change). `ids` has room for `ids_capacity` bytes, WARM_ID_BYTES_MAX at
 * least. The daemon remembers the last 65,535 changes that it made itself, fewer when their ids have more than 4 MiB together: a
 * restart, also in order, forgets all of them. An `after` above the last change is of another store, or a power cut took it back.
 * Whoever gets WARM_E_GONE takes warm_sequence_get, walks the store, and goes on from that sequence.
 * Returns:  WARM_OK (*ret_count is 0 when nothing changed), WARM_E_GONE (not remembered, or never made), WARM_E_INVALID,
 *           WARM_E_UNAVAILABLE, WARM_E_ACCESS, WARM_E_CORRUPT.
 * Lifetime: everything is copied into the caller's memory.
 * Threads:  any.
 * Blocks:   no, unless the daemon restarts: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_changes(warm_client *client, uint64_t after, uint32_t change_bytes, warm_change *ret_changes, size_t changes,
                             void *ids, size_t ids_capacity, size_t *ret_count) WARM_NOEXCEPT;

/* ---- Operating ----------------------------------------------------------------------------------------------------- */

/* Brings everything that is visible at the call to the device. `ret_sequence` (may be NULL) receives the sequence up to which all
 * survives power loss then.
 * Returns:  WARM_OK; WARM_E_ACCESS: the caller may not administer; WARM_E_BUSY: it is not done before the deadline, and goes on;
 *           WARM_E_SYSTEM: the device failed, durability has stopped; WARM_E_UNAVAILABLE, WARM_E_INVALID, WARM_E_NOMEM.
 * Lifetime: nothing is kept.
 * Threads:  any.
 * Blocks:   up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_checkpoint(warm_client *client, uint64_t *ret_sequence) WARM_NOEXCEPT;

#define WARM_SESSION_ATTACHED 1u
#define WARM_SESSION_SILENT 2u  /* its connection has ended, its process lives: what it holds is held */
#define WARM_SESSION_UNKNOWN 3u /* of before a restart of the daemon; it has not come back, and what it holds is not known */

/* One warm_open of one process. A client half of whose channel's lanes were lost to processes that died takes another session
 * into use, in another channel, and keeps the old one until no view, ticket or call is left in it. */
typedef struct warm_session {
  uint64_t session;    /* number; never repeats in a store */
  uint64_t channel;    /* processes of one user share one */
  uint64_t since_ns;   /* when it was opened, also over restarts of the daemon */
  uint64_t views;      /* that it holds */
  uint64_t view_bytes; /* embeddings and contents that these show */
  uint64_t gets;       /* records that get, get_many, get_copy and recall showed; as its process says: untrusted */
  uint64_t misses;     /* as its process says: untrusted */
  uint32_t pid;        /* as the daemon sees it; 0: it cannot */
  uint32_t uid;
  uint32_t state;      /* WARM_SESSION_* */
  uint32_t views_max;  /* that it may hold: see warm_info */
} warm_session;

/* Says who holds how many views: every session for who may administer, else those of the caller's user, by their numbers.
 * `*ret_count` is how many there are; the first `sessions` are stored. `session_bytes` is sizeof(warm_session). The daemon
 * counts after the call began, and ten times a second at most: who asks more often waits for the next count. A session that is
 * just opening or ending may be left out.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_UNAVAILABLE (no answer before the deadline), WARM_E_ACCESS, WARM_E_CORRUPT,
 *           WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: values are copied. `ret_sessions` may be NULL when `sessions` is 0.
 * Threads:  any.
 * Blocks:   up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_sessions(warm_client *client, uint32_t session_bytes, warm_session *ret_sessions, size_t sessions,
                              size_t *ret_count) WARM_NOEXCEPT;

/* ---- Walking ------------------------------------------------------------------------------------------------------- */

/* A walk over the records that a filter wants. What is there throughout and untouched comes exactly once; what is replaced
 * meanwhile comes once, as it was or as it is; what is put or removed meanwhile comes once or not at all; nothing comes twice.
 * That holds over growth of the index and restarts of the daemon. The order means nothing. */
typedef struct warm_cursor warm_cursor;

/* Begins a walk. `filter` may be NULL: every record.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_LIMIT (id_prefix), WARM_E_NOMEM.
 * Lifetime: the cursor lives until warm_cursor_close; warm_close is refused before. It holds nothing back in the store.
 * Threads:  any; a cursor is used by one thread at a time.
 * Blocks:   no.
 * Since:    0.1 */
WARM_EXPORT int warm_cursor_open(warm_client *client, const warm_filter *filter, warm_cursor **ret_cursor) WARM_NOEXCEPT;

/* Gets views of the next records, at most `views` (at least 1). `ret_count` receives how many: fewer than asked for is not the
 * end, 0 is. `flags`: WARM_VERIFY, WARM_COPY. A damaged record is WARM_E_CORRUPT, named by the message; the cursor stands behind
 * it then and may go on.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_STALE (the cursor is from before a fork), WARM_E_BUSY, WARM_E_UNAVAILABLE,
 *           WARM_E_ACCESS, WARM_E_LIMIT (warm_info.views_max are held), WARM_E_CORRUPT, WARM_E_UNSUPPORTED, WARM_E_NOMEM,
 *           WARM_E_SYSTEM. After any of them the cursor may go on.
 * Lifetime: each view lives until its own warm_release.
 * Threads:  one at a time.
 * Blocks:   no, unless the daemon restarts: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_cursor_next(warm_cursor *cursor, uint32_t flags, warm_view *ret_views, size_t views,
                                 size_t *ret_count) WARM_NOEXCEPT;

/* What a fast walk shows of a record. */
typedef struct warm_item {
  const void *id;
  uint32_t id_bytes;
  uint32_t content_state;      /* WARM_CONTENT_* */
  uint64_t content_bytes;
  uint64_t sequence;
  uint64_t created_ns;
  uint64_t last_access_ns;
  float confidence;
  float activation;
  float decay_rate;
  uint32_t recall_count;
} warm_item;

/* The same walk, but ids and scalars only: no view, no pin, no embedding is touched. `item_bytes` is sizeof(warm_item).
 * Returns:  as warm_cursor_next.
 * Lifetime: ids live until the next call on this cursor; all else is copied.
 * Threads:  one at a time.
 * Blocks:   no, unless the daemon restarts: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_cursor_next_items(warm_cursor *cursor, uint32_t item_bytes, warm_item *ret_items, size_t items,
                                       size_t *ret_count) WARM_NOEXCEPT;

/* Ends a walk. NULL is allowed and does nothing.
 * Returns:  WARM_OK.
 * Lifetime: the cursor and its ids must not be used afterwards; views live on.
 * Threads:  no other call on this cursor may be running.
 * Blocks:   no.
 * Since:    0.1 */
WARM_EXPORT int warm_cursor_close(warm_cursor *cursor) WARM_NOEXCEPT;

/* Counts the records that pass a filter. Without one (NULL, or WARM_FILTER_INIT as it is) it reads one number, also while no
 * daemon is there; else it walks.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_LIMIT (id_prefix), WARM_E_BUSY, WARM_E_UNAVAILABLE, WARM_E_ACCESS, WARM_E_CORRUPT (a
 *           damaged record cannot be judged), WARM_E_NOMEM, WARM_E_SYSTEM.
 * Lifetime: the filter is copied.
 * Threads:  any.
 * Blocks:   no, unless the daemon restarts: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_count(warm_client *client, const warm_filter *filter, uint64_t *ret_count) WARM_NOEXCEPT;

/* ---- Chunks -------------------------------------------------------------------------------------------------------- */

#define WARM_CHUNK_ROWS 1024u

/* Up to WARM_CHUNK_ROWS embeddings as one matrix, in place, for whatever takes a pointer and a stride. Nothing is held back in
 * the store: a row may become another record's while it is read, and any bits may be seen then. warm_chunk_check says afterwards
 * which rows did not change; what was computed from others does not count. A record that is replaced while several chunks are
 * read can be met in both or in none of them. */
typedef struct warm_chunk {
  uint32_t struct_bytes;       /* WARM_CHUNK_INIT sets it */
  uint32_t dimensions;         /* values in a row; zeros behind them */
  const float *rows;           /* on a 64-byte boundary */
  uint64_t row_bytes;          /* from one row to the next */
  uint32_t row_count;          /* up to WARM_CHUNK_ROWS */
  uint32_t live_rows;          /* bits in `live` */
  uint64_t live[16];           /* bit r % 64 of word r / 64: row r held a visible record when the chunk was opened, and the
                                  same one at the last check */
  uint64_t chunk;              /* its number */
  uint64_t internal[4];        /* the library's; copy a chunk only with all of it, and close it once */
} warm_chunk;

#define WARM_CHUNK_INIT \
  { sizeof(warm_chunk), 0, NULL, 0, 0, 0, { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 0, { 0, 0, 0, 0 } }

/* How many chunks the store has now, those among them in which no record lives (live_rows 0).
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_UNAVAILABLE, WARM_E_ACCESS.
 * Lifetime: values are copied.
 * Threads:  any.
 * Blocks:   no, unless the daemon restarts: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_chunk_count(warm_client *client, uint64_t *ret_chunks) WARM_NOEXCEPT;

/* Opens the chunk with this number, from 0 on.
 * Returns:  WARM_OK, WARM_E_NOT_FOUND (the store has not so many), WARM_E_INVALID, WARM_E_UNAVAILABLE, WARM_E_ACCESS,
 *           WARM_E_NOMEM.
 * Lifetime: `rows` is mapped until warm_chunk_close; warm_close is refused before.
 * Threads:  any; an open chunk may be read by all threads, checked and closed by one at a time.
 * Blocks:   no, unless the daemon restarts: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_chunk_open(warm_client *client, uint64_t chunk, warm_chunk *ret_chunk) WARM_NOEXCEPT;

/* Clears the bits of rows that changed since the chunk was opened, and counts the others.
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_STALE (from before a fork; or the socket's daemon serves another store now),
 *           WARM_E_UNAVAILABLE, WARM_E_ACCESS.
 * Lifetime: the chunk stays open.
 * Threads:  one at a time.
 * Blocks:   no, unless the daemon restarts: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_chunk_check(warm_client *client, warm_chunk *chunk) WARM_NOEXCEPT;

/* Gets a view of the record that a row held when the chunk was opened.
 * Returns:  WARM_OK, WARM_E_NOT_FOUND (the row held none, or does not hold it any more), WARM_E_STALE, and the codes of warm_get.
 * Lifetime: as in warm_get; the view outlives the chunk.
 * Threads:  any.
 * Blocks:   no, unless the daemon restarts: then up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_chunk_view(warm_client *client, const warm_chunk *chunk, uint32_t row, warm_view *ret_view) WARM_NOEXCEPT;

/* Closes a chunk. One that was closed, never opened, or is from before a fork, is left alone.
 * Returns:  WARM_OK, WARM_E_INVALID.
 * Lifetime: `rows` must not be used afterwards.
 * Threads:  one at a time.
 * Blocks:   no.
 * Since:    0.1 */
WARM_EXPORT int warm_chunk_close(warm_client *client, warm_chunk *chunk) WARM_NOEXCEPT;

/* ---- Statistics ---------------------------------------------------------------------------------------------------- */

/* Numbers of the running daemon; counters start at 0 with each daemon unless the comment says "store". */
typedef struct warm_stats {
  uint32_t struct_bytes;          /* WARM_STATS_INIT sets it */
  uint32_t io_backend;            /* 1: io_uring, 2: threads */
  uint64_t records;               /* store: live records */
  uint64_t capacity;              /* store: slots at most */
  uint64_t slots_allocated;       /* store: slots with space behind them */
  uint64_t slots_free;            /* slots that a put may use at once */
  uint64_t slots_waiting;         /* dead slots that wait for a checkpoint or for grace */
  uint64_t slots_held;            /* dead slots that a view still pins */
  uint64_t segments;              /* store: content segment files */
  uint64_t content_bytes_live;    /* store: bytes of content records that live records name */
  uint64_t content_bytes_total;   /* store: bytes appended to the segments that are there */
  uint64_t sequence;              /* store: of the last change that every process sees */
  uint64_t sequence_durable;      /* store: changes up to here survive power loss */
  uint64_t sessions;              /* open sessions */
  uint64_t channels;              /* open channels */
  uint64_t puts;
  uint64_t removes;
  uint64_t refused;               /* requests answered without an effect */
  uint64_t gets;                  /* as the clients say: untrusted; of when the daemon last fell asleep, for nobody wakes it to
                                     count (warm_sessions has it count) */
  uint64_t misses;                /* the same */
  uint64_t lane_repairs;          /* as the clients say: untrusted */
  uint64_t lanes_fenced;
  uint64_t pins_voided;           /* pins of dead processes that were given up */
  uint64_t sessions_ended;        /* by death or bye */
  uint64_t checkpoints;
  uint64_t index_doublings;
  uint64_t requests_recovered;    /* requests in flight at the last restart that were decided then */
  uint64_t bad_requests;          /* requests of clients that failed validation */
  uint64_t damaged_records;       /* records that recovery found damaged */
  uint64_t spin_ns;               /* time the store thread spent looking for work */
  uint64_t uptime_ns;
  uint64_t orphans;               /* sessions of the last daemon whose processes live and have not come back: while there are any,
                                     no slot that was used before is used again */
  uint64_t updates;
  uint64_t touches;               /* applied: a recall count went up */
  uint64_t touches_dropped;       /* the daemon did not keep up; mostly as the clients say: untrusted */
} warm_stats;

#define WARM_STATS_INIT \
  { sizeof(warm_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Reads the daemon's status page, and looks whether the daemon is there. O(1).
 * Returns:  WARM_OK, WARM_E_INVALID, WARM_E_UNAVAILABLE (the daemon is gone and did not come back before the deadline),
 *           WARM_E_ACCESS.
 * Lifetime: values are copied; each is right by itself, they are not of one moment.
 * Threads:  any.
 * Blocks:   no, but while the daemon is away up to the deadline.
 * Since:    0.1 */
WARM_EXPORT int warm_stats_get(warm_client *client, warm_stats *ret_stats) WARM_NOEXCEPT;

/* ---- Errors and version -------------------------------------------------------------------------------------------- */

/* The constant's name, "WARM_E_FULL"; "WARM_E_?" for a number outside the table.
 * Returns:  a static string, never NULL.   Lifetime: static.   Threads: any.   Blocks: no.   Since: 0.1 */
WARM_EXPORT const char *warm_error_name(int code) WARM_NOEXCEPT;

/* One sentence about the code.
 * Returns:  a static string, never NULL.   Lifetime: static.   Threads: any.   Blocks: no.   Since: 0.1 */
WARM_EXPORT const char *warm_strerror(int code) WARM_NOEXCEPT;

/* The sentence about the last failure in the calling thread: what was wrong, which value, what would be right.
 * Returns:  a string, never NULL; empty when nothing failed.
 * Lifetime: until the next warmtier call of this thread.   Threads: any.   Blocks: no.   Since: 0.1 */
WARM_EXPORT const char *warm_last_error(void) WARM_NOEXCEPT;

/* The library's version, "0.1.0".
 * Returns:  a static string.   Lifetime: static.   Threads: any.   Blocks: no.   Since: 0.1 */
WARM_EXPORT const char *warm_version(void) WARM_NOEXCEPT;

#ifdef __cplusplus
}
#endif
#endif /* WARMTIER_WARMTIER_H */
