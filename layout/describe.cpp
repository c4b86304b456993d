// Each table is checked at compile time against the struct that it describes: every byte belongs to exactly one row.
#include "layout/describe.hpp"

#include <cstddef>
#include <string_view>

namespace warmtier::layout {
namespace {

// clang-format off
#define WARM_FIELD(type, member, meaning) \
  Field { #member, static_cast<uint32_t>(offsetof(type, member)), static_cast<uint32_t>(sizeof(type::member)), meaning }
// clang-format on

template <size_t N>
constexpr bool complete(const Field (&fields)[N], size_t bytes) noexcept {
  uint64_t end = 0;
  for (const Field& field : fields) {
    if (field.offset != end || field.bytes == 0) return false;
    end += field.bytes;
  }
  return end == bytes;
}

constexpr char kZero[] = "zero";

// ---- values inside other structs --------------------------------------------------------------------------------------------

constexpr Field kQuad[] = {
    WARM_FIELD(Quad, confidence, "finite"),
    WARM_FIELD(Quad, activation, "finite"),
    WARM_FIELD(Quad, decay_rate, "finite"),
    WARM_FIELD(Quad, recall_count, "times recalled; the four are loaded and stored by one 16-byte access"),
};
static_assert(complete(kQuad, sizeof(Quad)));

// ---- tier -------------------------------------------------------------------------------------------------------------------

constexpr Field kSuperblock[] = {
    WARM_FIELD(Superblock, magic, "WARMTIER"),
    WARM_FIELD(Superblock, format_version, "1; another one is refused with both numbers"),
    WARM_FIELD(Superblock, superblock_bytes, "4096"),
    WARM_FIELD(Superblock, incompatible_flags, "features: an unknown bit refuses the store"),
    WARM_FIELD(Superblock, compatible_flags, "features: an unknown bit is kept"),
    WARM_FIELD(Superblock, epoch, "rises by 1 with each superblock written; the valid copy with the higher one holds"),
    WARM_FIELD(Superblock, checkpoint_sequence, "C: every operation up to here is on the device"),
    WARM_FIELD(Superblock, store_id, "random, set when the store is made"),
    WARM_FIELD(Superblock, hash_seed, "of the ids' hashes; random, set when the store is made"),
    WARM_FIELD(Superblock, capacity, "slots at most, 1 to 2^32 - 2"),
    WARM_FIELD(Superblock, dimensions, "values of an embedding, 1 to 4096"),
    WARM_FIELD(Superblock, row_bytes, "dimensions * 4 rounded up to 64"),
    WARM_FIELD(Superblock, sketch_bytes, "per slot; 0: there is no such column"),
    WARM_FIELD(Superblock, chunk_slots, "1024"),
    WARM_FIELD(Superblock, segment_bytes, "length of an ordinary content segment"),
    WARM_FIELD(Superblock, chunks_allocated, "chunks with space behind them as of this copy; the file may be longer"),
    WARM_FIELD(Superblock, next_segment, "as of this copy; the control page may be further"),
    WARM_FIELD(Superblock, next_session, "as of this copy; the control page may be further"),
    WARM_FIELD(Superblock, next_channel, "as of this copy; the control page may be further"),
    WARM_FIELD(Superblock, boot_id, "boot of the host in which the maps were last right"),
    WARM_FIELD(Superblock, mount_device, "st_dev of the store directory in that boot"),
    WARM_FIELD(Superblock, mount_namespace, "number of that daemon's mount namespace, which never repeats in a boot; 0: unknown"),
    WARM_FIELD(Superblock, mount_id, "mount of the store directory"),
    WARM_FIELD(Superblock, created_ns, "when the store was made"),
    WARM_FIELD(Superblock, log_nonce, "incarnation of the log; 0: the store has no log"),
    WARM_FIELD(Superblock, log_first, "0 without a log"),
    WARM_FIELD(Superblock, log_bytes, "0 without a log"),
    WARM_FIELD(Superblock, clean_stop, "1: written by a stopping daemon"),
    WARM_FIELD(Superblock, reserved, kZero),
    WARM_FIELD(Superblock, checksum, "XXH3 of everything before it, seed 0"),
};
static_assert(complete(kSuperblock, sizeof(Superblock)));

constexpr Field kGenerationLine[] = {
    WARM_FIELD(GenerationLine, generation,
               "random, compared for equality only; 0: closed. Writer: store thread, sequentially consistent"),
    WARM_FIELD(GenerationLine, reserved, kZero),
};
static_assert(complete(kGenerationLine, sizeof(GenerationLine)));

constexpr Field kIntentLine[] = {
    WARM_FIELD(IntentLine, state,
               "0: none; else the operation's sequence. Set to 0 before the other words, stored last (release)"),
    WARM_FIELD(IntentLine, kind, "1 put, 2 replace, 3 remove, 4 update, 5 move"),
    WARM_FIELD(IntentLine, channel, "number of the channel that asked"),
    WARM_FIELD(IntentLine, lane, "lane; 2^32 - 1: the socket; 2^32 - 2: no request"),
    WARM_FIELD(IntentLine, session_index, "entry of the channel's session table"),
    WARM_FIELD(IntentLine, number, "of the request, in the lane or on the socket"),
    WARM_FIELD(IntentLine, session, "session number"),
    WARM_FIELD(IntentLine, ticket, "of the request"),
    WARM_FIELD(IntentLine, cell, "result cell"),
    WARM_FIELD(IntentLine, status, "what the answer will say"),
    WARM_FIELD(IntentLine, old_slot, "slot that dies, or is updated; 2^32 - 1: none"),
    WARM_FIELD(IntentLine, new_slot, "slot that is filled; 2^32 - 1: none"),
    WARM_FIELD(IntentLine, quad, "update: the new absolute values"),
    WARM_FIELD(IntentLine, created_ns, kZero),
    WARM_FIELD(IntentLine, last_access_ns, "update: the new absolute value"),
    WARM_FIELD(IntentLine, locator, "move: the new locator word"),
    WARM_FIELD(IntentLine, reserved, kZero),
};
static_assert(complete(kIntentLine, sizeof(IntentLine)));

constexpr Field kNumbersLine[] = {
    WARM_FIELD(NumbersLine, next_segment, "writer: store thread; stored (release) before the number is used"),
    WARM_FIELD(NumbersLine, next_session, "the same"),
    WARM_FIELD(NumbersLine, next_channel, "the same"),
    WARM_FIELD(NumbersLine, device_recovery, "1: an I/O error was seen, the page cache is no witness"),
    WARM_FIELD(NumbersLine, last_update, "sequence of the last update; sequences go on above it"),
    WARM_FIELD(NumbersLine, reserved, kZero),
};
static_assert(complete(kNumbersLine, sizeof(NumbersLine)));

constexpr Field kControlPage[] = {
    WARM_FIELD(ControlPage, generation, "GenerationLine"),
    WARM_FIELD(ControlPage, reserved0, kZero),
    WARM_FIELD(ControlPage, intent, "IntentLine; far enough from the generation that its stores do not disturb readers"),
    WARM_FIELD(ControlPage, reserved1, kZero),
    WARM_FIELD(ControlPage, numbers, "NumbersLine"),
    WARM_FIELD(ControlPage, reserved2, kZero),
};
static_assert(complete(kControlPage, sizeof(ControlPage)));

constexpr Field kSlotLine[] = {
    WARM_FIELD(SlotLine, put, "sequence 48, check 16 keyed with the slot. 0: free. Stored last (release)"),
    WARM_FIELD(SlotLine, dead,
               "sequence 48, check 16 keyed with the put that it ends. Stored after the index cell (release), never reset"),
    WARM_FIELD(SlotLine, locator,
               "segment 33, offset 23 in units of 8 bytes, check 8 keyed with slot and put; always names a record"),
    WARM_FIELD(SlotLine, created_ns, "nanoseconds since 1970"),
    WARM_FIELD(SlotLine, quad, "Quad; one 16-byte access"),
    WARM_FIELD(SlotLine, last_access_ns, "nanoseconds since 1970"),
    WARM_FIELD(SlotLine, content_bytes, "of the content as it was given; 0 also when absent"),
    WARM_FIELD(SlotLine, checksum, "over embedding and content"),
};
static_assert(complete(kSlotLine, sizeof(SlotLine)));

// ---- segment ----------------------------------------------------------------------------------------------------------------

constexpr Field kSegmentHeader[] = {
    WARM_FIELD(SegmentHeader, magic, "of a segment"),
    WARM_FIELD(SegmentHeader, format_version, "1"),
    WARM_FIELD(SegmentHeader, header_bytes, "64"),
    WARM_FIELD(SegmentHeader, number, "also the file's name; never used twice in a store"),
    WARM_FIELD(SegmentHeader, segment_bytes, "length of the file"),
    WARM_FIELD(SegmentHeader, store_id, "of the store"),
    WARM_FIELD(SegmentHeader, created_ns, "nanoseconds since 1970"),
    WARM_FIELD(SegmentHeader, checksum, "XXH3 of everything before it, seed 0"),
};
static_assert(complete(kSegmentHeader, sizeof(SegmentHeader)));

constexpr Field kRecordHeader[] = {
    WARM_FIELD(RecordHeader, put, "the word of the slot line"),
    WARM_FIELD(RecordHeader, hash, "XXH3 of the id, seeded with the store's"),
    WARM_FIELD(RecordHeader, created_ns, "as in the slot line"),
    WARM_FIELD(RecordHeader, header_checksum, "over this header (this field 0), the id, and the line's length and checksum"),
    WARM_FIELD(RecordHeader, content_checksum, "over the stored content"),
    WARM_FIELD(RecordHeader, stored_bytes, "of the content as it is stored"),
    WARM_FIELD(RecordHeader, id_bytes, "1 to 1024"),
    WARM_FIELD(RecordHeader, codec, "0: raw"),
    WARM_FIELD(RecordHeader, flags, "1: the content is absent, which is not empty"),
};
static_assert(complete(kRecordHeader, sizeof(RecordHeader)));

// ---- index ------------------------------------------------------------------------------------------------------------------

constexpr Field kIndexHeader[] = {
    WARM_FIELD(IndexHeader, magic, "stored last: it publishes the region"),
    WARM_FIELD(IndexHeader, format_version, "1"),
    WARM_FIELD(IndexHeader, homes_log2, "12 to 30"),
    WARM_FIELD(IndexHeader, buckets, "2^homes_log2 + 63"),
    WARM_FIELD(IndexHeader, hash_seed, "of the store"),
    WARM_FIELD(IndexHeader, reserved, kZero),
};
static_assert(complete(kIndexHeader, sizeof(IndexHeader)));

constexpr Field kBucket[] = {
    WARM_FIELD(Bucket, cells,
               "7 cells: slot + 1 in 32 bits (0: empty), distance from home 6, tag 26. Writer: store thread, release"),
    WARM_FIELD(Bucket, distances,
               "bit d - 1: an entry of this home lies d buckets on; set before the first, cleared after the last"),
};
static_assert(complete(kBucket, sizeof(Bucket)));

// ---- feed -------------------------------------------------------------------------------------------------------------------

constexpr Field kFeedHeader[] = {
    WARM_FIELD(FeedHeader, magic, "stored last: it publishes the region"),
    WARM_FIELD(FeedHeader, format_version, "1"),
    WARM_FIELD(FeedHeader, entries_log2, "length of the ring of entries"),
    WARM_FIELD(FeedHeader, ids_log2, "bytes of the ring of ids"),
    WARM_FIELD(FeedHeader, reserved32, kZero),
    WARM_FIELD(FeedHeader, sequence_base, "the entry at position 2^32 - 4 + i has the sequence sequence_base + 1 + i"),
    WARM_FIELD(FeedHeader, reserved0, kZero),
    WARM_FIELD(FeedHeader, head, "position of the next entry, from 2^32 - 4 on. Writer: store thread, release"),
    WARM_FIELD(FeedHeader, ids_end,
               "unit up to which ids may be written, from 2^53 - 4 on. Relaxed, then a release fence, then the bytes"),
    WARM_FIELD(FeedHeader, reserved1, kZero),
};
static_assert(complete(kFeedHeader, sizeof(FeedHeader)));

constexpr Field kFeedEntry[] = {
    WARM_FIELD(FeedEntry, change, "sequence 48, kind 16 (1 put, 2 replace, 3 remove, 4 update, 5 move)"),
    WARM_FIELD(FeedEntry, place, "slot 32, low half of the position 32; both words are one 16-byte store"),
};
static_assert(complete(kFeedEntry, sizeof(FeedEntry)));

// ---- status -----------------------------------------------------------------------------------------------------------------

constexpr Field kStatusPage[] = {
    WARM_FIELD(StatusPage, magic, "stored last: it publishes the region"),
    WARM_FIELD(StatusPage, format_version, "1"),
    WARM_FIELD(StatusPage, io_backend, "1 io_uring, 2 threads"),
    WARM_FIELD(StatusPage, buffers_registered, "1: io_uring's buffers are registered"),
    WARM_FIELD(StatusPage, daemon_pid, "as the daemon sees itself"),
    WARM_FIELD(StatusPage, started_ns, "nanoseconds since 1970"),
    WARM_FIELD(StatusPage, reserved0, kZero),
    WARM_FIELD(StatusPage, slots_allocated, "release, before the first cell that needs it"),
    WARM_FIELD(StatusPage, segment_epoch, "rises when a segment appears or goes; release, before a locator names it"),
    WARM_FIELD(StatusPage, content_bytes_max, "the configured cap"),
    WARM_FIELD(StatusPage, stopping, "1: the daemon goes down in order"),
    WARM_FIELD(StatusPage, reserved1, kZero),
    WARM_FIELD(StatusPage, sleeping,
               "0: awake; else the number of this sleep: ring once. Store, full fence, the lanes once more"),
    WARM_FIELD(StatusPage, reserved2, kZero),
    WARM_FIELD(StatusPage, sequence, "of the last visible change; release, after the feed; its low half is a futex word"),
    WARM_FIELD(StatusPage, feed_head, "as in the feed's header"),
    WARM_FIELD(StatusPage, reserved3, kZero),
    WARM_FIELD(StatusPage, sequence_durable, "changes up to here survive power loss; release; its low half is a futex word"),
    WARM_FIELD(StatusPage, durability_stopped, "1: an I/O error was seen, sequence_durable rises no more"),
    WARM_FIELD(StatusPage, reserved4, kZero),
    WARM_FIELD(StatusPage, records, "live records"),
    WARM_FIELD(StatusPage, slots_free, "slots that a put may use at once"),
    WARM_FIELD(StatusPage, slots_waiting, "dead slots that wait for a checkpoint or for grace"),
    WARM_FIELD(StatusPage, slots_held, "dead slots that a pin names"),
    WARM_FIELD(StatusPage, segments, "content segment files"),
    WARM_FIELD(StatusPage, content_bytes_live, "bytes of records that live lines name"),
    WARM_FIELD(StatusPage, content_bytes_total, "bytes appended to the segments that are there"),
    WARM_FIELD(StatusPage, sessions, "open sessions"),
    WARM_FIELD(StatusPage, channels, "open channels"),
    WARM_FIELD(StatusPage, puts, "carried out by this daemon"),
    WARM_FIELD(StatusPage, removes, "carried out by this daemon"),
    WARM_FIELD(StatusPage, refused, "requests answered without an effect"),
    WARM_FIELD(StatusPage, gets, "summed from the sessions: untrusted"),
    WARM_FIELD(StatusPage, misses, "summed from the sessions: untrusted"),
    WARM_FIELD(StatusPage, lane_repairs, "summed from the sessions: untrusted"),
    WARM_FIELD(StatusPage, lanes_fenced, "lanes in which nobody claims any more"),
    WARM_FIELD(StatusPage, pins_voided, "pins of ended processes that were given up"),
    WARM_FIELD(StatusPage, sessions_ended, "by bye or by death"),
    WARM_FIELD(StatusPage, checkpoints, "completed"),
    WARM_FIELD(StatusPage, index_doublings, "completed"),
    WARM_FIELD(StatusPage, requests_recovered, "requests in flight at the last restart that were decided then"),
    WARM_FIELD(StatusPage, bad_requests, "requests that failed validation"),
    WARM_FIELD(StatusPage, damaged_records, "found by recovery"),
    WARM_FIELD(StatusPage, spin_ns, "time the store thread spent looking for work"),
    WARM_FIELD(StatusPage, orphans, "sessions of an earlier daemon whose process lives and has not handed back its pins"),
    WARM_FIELD(StatusPage, slots_prepared, "free slots whose pages are populated"),
    WARM_FIELD(StatusPage, updates, "scalars of a record set"),
    WARM_FIELD(StatusPage, touches, "touches applied"),
    WARM_FIELD(StatusPage, touches_dropped,
               "touches that found a ring full: as the clients say, untrusted; and what was overrun"),
    WARM_FIELD(StatusPage, reserved5, kZero),
};
static_assert(complete(kStatusPage, sizeof(StatusPage)));

// ---- results ----------------------------------------------------------------------------------------------------------------

constexpr Field kResultsHeader[] = {
    WARM_FIELD(ResultsHeader, magic, "stored last: it publishes the region"),
    WARM_FIELD(ResultsHeader, format_version, "1"),
    WARM_FIELD(ResultsHeader, lanes, "of the channel, 64 to 1024"),
    WARM_FIELD(ResultsHeader, channel, "number; never used twice in a store"),
    WARM_FIELD(ResultsHeader, memfd_device, "of the channel's memfd"),
    WARM_FIELD(ResultsHeader, memfd_inode, "of the channel's memfd"),
    WARM_FIELD(ResultsHeader, namespace_device, "PID namespace, as the clients state it"),
    WARM_FIELD(ResultsHeader, namespace_inode, "PID namespace, as the clients state it"),
    WARM_FIELD(ResultsHeader, uid, "user of the channel"),
    WARM_FIELD(ResultsHeader, sessions_max, "1024"),
    WARM_FIELD(ResultsHeader, store_id, "of the store"),
    WARM_FIELD(ResultsHeader, boot_id, "a file of another boot is of no use: no process of it lives"),
    WARM_FIELD(ResultsHeader, daemon_namespace_device, "PID namespace in which the entries' pids are processes; 0: not known"),
    WARM_FIELD(ResultsHeader, daemon_namespace_inode, "PID namespace in which the entries' pids are processes; 0: not known"),
    WARM_FIELD(ResultsHeader, reserved, kZero),
};
static_assert(complete(kResultsHeader, sizeof(ResultsHeader)));

constexpr Field kDoneLine[] = {
    WARM_FIELD(DoneLine, done, "last executed number of the lane, from 2^32 - 4 on; release, after the result cell"),
    WARM_FIELD(DoneLine, reserved, kZero),
};
static_assert(complete(kDoneLine, sizeof(DoneLine)));

constexpr Field kSessionEntry[] = {
    WARM_FIELD(SessionEntry, number, "of the session; a new tenant's is stored before the state"),
    WARM_FIELD(SessionEntry, state, "0 none, 1 live, 2 dead, 3 offered: not accepted yet"),
    WARM_FIELD(SessionEntry, pid, "as the daemon sees it; 0: it cannot"),
    WARM_FIELD(SessionEntry, start_time, "of the process, in clock ticks since boot"),
    WARM_FIELD(SessionEntry, pidfs_inode, "0: the kernel has none"),
    WARM_FIELD(SessionEntry, socket_done, "last executed number of the socket"),
    WARM_FIELD(SessionEntry, memfd_device, "of the session's memfd"),
    WARM_FIELD(SessionEntry, memfd_inode, "of the session's memfd"),
    WARM_FIELD(SessionEntry, since_ns, "when it attached first, nanoseconds since 1970"),
    WARM_FIELD(SessionEntry, touches_taken, "position up to which its touch ring was read"),
    WARM_FIELD(SessionEntry, views_max, "pin cells that count, from the first on: what the session was granted"),
    WARM_FIELD(SessionEntry, reserved0, kZero),
    WARM_FIELD(SessionEntry, reserved, kZero),
};
static_assert(complete(kSessionEntry, sizeof(SessionEntry)));

constexpr Field kResultCell[] = {
    WARM_FIELD(ResultCell, number,
               "ticket of the last answer, from 2^32 - 5 on; stored last (release); its low half is a futex word"),
    WARM_FIELD(ResultCell, sequence,
               "of the operation, or of the record that refused it; WARM_E_FULL: sessions awaited 32, slots held 32"),
    WARM_FIELD(ResultCell, status, "WARM_OK or WARM_E_*"),
    WARM_FIELD(ResultCell, slot, "of the record; WARM_E_FULL: pid of one of the sessions that are awaited"),
    WARM_FIELD(ResultCell, limit, "WARM_E_LIMIT and WARM_E_FULL: the limit that was met; of a clear: the records removed"),
};
static_assert(complete(kResultCell, sizeof(ResultCell)));

// ---- channel ----------------------------------------------------------------------------------------------------------------

constexpr Field kChannelHeader[] = {
    WARM_FIELD(ChannelHeader, magic, "stored last: it publishes the region"),
    WARM_FIELD(ChannelHeader, format_version, "1"),
    WARM_FIELD(ChannelHeader, lanes, "64 to 1024"),
    WARM_FIELD(ChannelHeader, channel, "number of the channel"),
    WARM_FIELD(ChannelHeader, reserved, kZero),
};
static_assert(complete(kChannelHeader, sizeof(ChannelHeader)));

constexpr Field kCommitLine[] = {
    WARM_FIELD(CommitLine, seq, "entry n is there iff seq[n mod 8] == n. Writer: who holds the claim; release, rising"),
};
static_assert(complete(kCommitLine, sizeof(CommitLine)));

constexpr Field kLaneLock[] = {
    WARM_FIELD(LaneLock, mutex, "the C library's robust mutex (40 bytes on x86-64, 48 on aarch64); the daemon never locks it"),
    WARM_FIELD(LaneLock, holder, "session number inside the claim; 0: nobody"),
    WARM_FIELD(LaneLock, holder_tid, "thread of the claim, as the client sees itself"),
    WARM_FIELD(LaneLock, fenced, "1: nobody claims here any more; the daemon serves what is published"),
    WARM_FIELD(LaneLock, busy_since_ns, "when a client first saw it busy (monotonic); 0: not busy"),
    WARM_FIELD(LaneLock, reserved, kZero),
};
static_assert(complete(kLaneLock, sizeof(LaneLock)));

constexpr Field kRequestHeader[] = {
    WARM_FIELD(RequestHeader, session, "number of the session that asks"),
    WARM_FIELD(RequestHeader, ticket, "next number of the result cell"),
    WARM_FIELD(RequestHeader, session_index, "entry of the session table"),
    WARM_FIELD(RequestHeader, cell, "result cell"),
    WARM_FIELD(RequestHeader, operation, "1 put, 2 remove, 3 update, 4 clear"),
    WARM_FIELD(RequestHeader, condition, "0 any, 1 absent, 2 sequence"),
    WARM_FIELD(RequestHeader, given,
               "put: 1 content, 2 created, 4 last access; update: 1 confidence, 2 activation, 4 decay rate, 8 recall count, 16 "
               "last access"),
    WARM_FIELD(RequestHeader, id_bytes, "1 to 1024; 0: none (clear)"),
    WARM_FIELD(RequestHeader, dimensions, "of the embedding; 0: none (all but put)"),
    WARM_FIELD(RequestHeader, content_bytes, "of the content"),
    WARM_FIELD(RequestHeader, if_sequence, "condition 2: the sequence that the record must have"),
    WARM_FIELD(RequestHeader, created_ns, "when given"),
    WARM_FIELD(RequestHeader, last_access_ns, "when given"),
    WARM_FIELD(RequestHeader, reserved0, kZero),
    WARM_FIELD(RequestHeader, quad, "Quad"),
    WARM_FIELD(RequestHeader, reserved, kZero),
};
static_assert(complete(kRequestHeader, sizeof(RequestHeader)));

// ---- session ----------------------------------------------------------------------------------------------------------------

constexpr Field kSessionHeader[] = {
    WARM_FIELD(SessionHeader, magic, "stored last: it publishes the region"),
    WARM_FIELD(SessionHeader, format_version, "of what follows the header; the header itself is frozen for all versions"),
    WARM_FIELD(SessionHeader, pin_cells, "65536"),
    WARM_FIELD(SessionHeader, session, "number"),
    WARM_FIELD(SessionHeader, pins_offset, "of the pin cells in this region"),
    WARM_FIELD(SessionHeader, reserved0, kZero),
    WARM_FIELD(SessionHeader, pins_high,
               "no pin cell from here on was ever used; raised before the pin is stored, never lowered"),
    WARM_FIELD(SessionHeader, reserved1, kZero),
    WARM_FIELD(SessionHeader, reserved2, kZero),
};
static_assert(complete(kSessionHeader, sizeof(SessionHeader)));

constexpr Field kSessionCounters[] = {
    WARM_FIELD(SessionCounters, gets, "calls"),
    WARM_FIELD(SessionCounters, misses, "calls that found nothing"),
    WARM_FIELD(SessionCounters, lane_repairs, "claims taken over from a dead owner"),
    WARM_FIELD(SessionCounters, lanes_fenced, "lanes that this session fenced"),
    WARM_FIELD(SessionCounters, reattaches, "after a restart of the daemon or a larger index"),
    WARM_FIELD(SessionCounters, touches_dropped, "touches that found the ring full"),
    WARM_FIELD(SessionCounters, reserved, kZero),
};
static_assert(complete(kSessionCounters, sizeof(SessionCounters)));

constexpr Field kTouchEntry[] = {
    WARM_FIELD(TouchEntry, put, "sequence of the record in the low 48 bits; above it 0: one of many gets, 1: a touch"),
    WARM_FIELD(TouchEntry, slot, "of the record"),
    WARM_FIELD(TouchEntry, position, "low half of the entry's position"),
};
static_assert(complete(kTouchEntry, sizeof(TouchEntry)));

constexpr Field kTouchRing[] = {
    WARM_FIELD(TouchRing, head, "position of the next entry, from 2^32 - 4 on; writer: the process"),
    WARM_FIELD(TouchRing, asked, "position behind the last touch: what the daemon is to come for; raised after its entry"),
    WARM_FIELD(TouchRing, reserved, kZero),
    WARM_FIELD(TouchRing, entries, "1024 TouchEntry"),
};
static_assert(complete(kTouchRing, sizeof(TouchRing)));

constexpr Field kSessionRegion[] = {
    WARM_FIELD(SessionRegion, header, "SessionHeader"),
    WARM_FIELD(SessionRegion, counters, "SessionCounters"),
    WARM_FIELD(SessionRegion, sleep,
               "one word per result cell: how many threads sleep on it; the daemon looks at it after each answer"),
    WARM_FIELD(SessionRegion, notify, "1: a byte on the socket with the next answer; the daemon clears it before it sends"),
    WARM_FIELD(SessionRegion, reserved0, kZero),
    WARM_FIELD(SessionRegion, touches, "TouchRing"),
    WARM_FIELD(SessionRegion, reserved1, kZero),
    WARM_FIELD(SessionRegion, pins, "one word per view: slot + 1; 0: no pin. Exchange to pin, release to clear"),
};
static_assert(complete(kSessionRegion, sizeof(SessionRegion)));

// ---- control ----------------------------------------------------------------------------------------------------------------

constexpr Field kMessageHeader[] = {
    WARM_FIELD(MessageHeader, kind,
               "1 hello, 2 welcome, 3 refuse, 4 segments, 5 segments_wanted, 6 index, 7 put, 8 bye, 9 accept, 10 watch, "
               "11 sessions_wanted, 12 sessions"),
    WARM_FIELD(MessageHeader, bytes, "of the whole message"),
};
static_assert(complete(kMessageHeader, sizeof(MessageHeader)));

constexpr Field kHello[] = {
    WARM_FIELD(Hello, header, "MessageHeader"),
    WARM_FIELD(Hello, protocol_version, "1"),
    WARM_FIELD(Hello, flags, kZero),
    WARM_FIELD(Hello, fingerprints, "of tier, segment, index, feed, status, results, channel, session, control"),
    WARM_FIELD(Hello, namespace_device, "of the client's PID namespace"),
    WARM_FIELD(Hello, namespace_inode, "of the client's PID namespace"),
    WARM_FIELD(Hello, resume_session, "0: a new session; else number of the one whose descriptors come along"),
    WARM_FIELD(Hello, resume_channel, "channel of that session"),
    WARM_FIELD(Hello, resume_index, "entry of that session"),
    WARM_FIELD(Hello, reserved, kZero),
};
static_assert(complete(kHello, sizeof(Hello)));

constexpr Field kWelcome[] = {
    WARM_FIELD(Welcome, header, "MessageHeader; seven descriptors: tier, index, feed, status, results, channel, session"),
    WARM_FIELD(Welcome, protocol_version, "1"),
    WARM_FIELD(Welcome, daemon_pid, "as the daemon sees itself"),
    WARM_FIELD(Welcome, session, "number"),
    WARM_FIELD(Welcome, channel, "number"),
    WARM_FIELD(Welcome, session_index, "entry of the session table"),
    WARM_FIELD(Welcome, lanes, "of the channel"),
    WARM_FIELD(Welcome, resumed, "1: session and channel are the ones that were handed back"),
    WARM_FIELD(Welcome, access, "0 none, 1 read, 2 write, 3 administer"),
    WARM_FIELD(Welcome, generation, "that belongs to this index"),
    WARM_FIELD(Welcome, capacity, "slots at most"),
    WARM_FIELD(Welcome, content_bytes_max, "the configured cap"),
    WARM_FIELD(Welcome, hash_seed, "of the ids' hashes"),
    WARM_FIELD(Welcome, store_id, "of the store"),
    WARM_FIELD(Welcome, dimensions, "of every embedding"),
    WARM_FIELD(Welcome, homes_log2, "of the index"),
    WARM_FIELD(Welcome, socket_done, "last executed number of the session's socket"),
    WARM_FIELD(Welcome, views_max, "views that the session is granted: so many pin cells count, from the first on"),
    WARM_FIELD(Welcome, reserved, kZero),
};
static_assert(complete(kWelcome, sizeof(Welcome)));

constexpr Field kRefuse[] = {
    WARM_FIELD(Refuse, header, "MessageHeader"),
    WARM_FIELD(Refuse, code, "WARM_E_*"),
    WARM_FIELD(Refuse, protocol_version, "1"),
    WARM_FIELD(Refuse, text, "a sentence, ended by a zero"),
};
static_assert(complete(kRefuse, sizeof(Refuse)));

constexpr Field kSegments[] = {
    WARM_FIELD(Segments, header, "MessageHeader; `count` descriptors"),
    WARM_FIELD(Segments, epoch, "of the status page when the list was made"),
    WARM_FIELD(Segments, count, "numbers and descriptors in this message"),
    WARM_FIELD(Segments, last, "1: the list is complete"),
    WARM_FIELD(Segments, numbers, "of the segments"),
};
static_assert(complete(kSegments, sizeof(Segments)));

constexpr Field kSegmentsWanted[] = {
    WARM_FIELD(SegmentsWanted, header, "MessageHeader"),
};
static_assert(complete(kSegmentsWanted, sizeof(SegmentsWanted)));

constexpr Field kIndexMessage[] = {
    WARM_FIELD(IndexMessage, header, "MessageHeader; one descriptor"),
    WARM_FIELD(IndexMessage, generation, "the value that makes this table the one to use"),
    WARM_FIELD(IndexMessage, homes_log2, "of the new table"),
    WARM_FIELD(IndexMessage, reserved, kZero),
};
static_assert(complete(kIndexMessage, sizeof(IndexMessage)));

constexpr Field kPutMessage[] = {
    WARM_FIELD(PutMessage, header, "MessageHeader; one descriptor: the content"),
    WARM_FIELD(PutMessage, number, "of the request on this socket, from 1 on"),
    WARM_FIELD(PutMessage, reserved, kZero),
    WARM_FIELD(PutMessage, request, "RequestHeader; then embedding, id"),
};
static_assert(complete(kPutMessage, sizeof(PutMessage)));

constexpr Field kBye[] = {
    WARM_FIELD(Bye, header, "MessageHeader"),
};
static_assert(complete(kBye, sizeof(Bye)));

constexpr Field kAccept[] = {
    WARM_FIELD(Accept, header, "MessageHeader"),
    WARM_FIELD(Accept, count, "of `sessions`"),
    WARM_FIELD(Accept, reserved, kZero),
    WARM_FIELD(Accept, sessions, "sessions of this process that are over for it; zeros behind the last"),
};
static_assert(complete(kAccept, sizeof(Accept)));

constexpr Field kWatch[] = {
    WARM_FIELD(Watch, header, "MessageHeader"),
    WARM_FIELD(Watch, sequence_after, "wake when a later change is visible; 2^64 - 1: not asked for"),
    WARM_FIELD(Watch, durable_after, "wake when a later change is durable, or none will be; 2^64 - 1: not asked for"),
    WARM_FIELD(Watch, checkpoint, "1: begin one now; of who may administer, else without effect"),
    WARM_FIELD(Watch, reserved, kZero),
};
static_assert(complete(kWatch, sizeof(Watch)));

constexpr Field kSessionsWanted[] = {
    WARM_FIELD(SessionsWanted, header, "MessageHeader"),
    WARM_FIELD(SessionsWanted, question, "comes back in the answer; rises on a socket"),
};
static_assert(complete(kSessionsWanted, sizeof(SessionsWanted)));

constexpr Field kSessionReport[] = {
    WARM_FIELD(SessionReport, session, "number"),
    WARM_FIELD(SessionReport, channel, "number"),
    WARM_FIELD(SessionReport, since_ns, "when it attached first, nanoseconds since 1970"),
    WARM_FIELD(SessionReport, views, "pins"),
    WARM_FIELD(SessionReport, view_bytes, "rows and contents that they name"),
    WARM_FIELD(SessionReport, gets, "as its process says: untrusted"),
    WARM_FIELD(SessionReport, misses, "as its process says: untrusted"),
    WARM_FIELD(SessionReport, pid, "as the daemon sees it; 0: it cannot"),
    WARM_FIELD(SessionReport, uid, "of its user"),
    WARM_FIELD(SessionReport, presence,
               "1 attached; 2 its socket has ended, its process lives; 3 of an earlier daemon, its pins are unknown"),
    WARM_FIELD(SessionReport, views_max, "views that it was granted"),
};
static_assert(complete(kSessionReport, sizeof(SessionReport)));

constexpr Field kSessionsMessage[] = {
    WARM_FIELD(SessionsMessage, header, "MessageHeader"),
    WARM_FIELD(SessionsMessage, question, "the one that is answered"),
    WARM_FIELD(SessionsMessage, count, "reports in this message"),
    WARM_FIELD(SessionsMessage, last, "1: the list is complete"),
    WARM_FIELD(SessionsMessage, reports, "SessionReport; as many as `count` says"),
};
static_assert(complete(kSessionsMessage, sizeof(SessionsMessage)));

#undef WARM_FIELD

// clang-format off
#define WARM_STRUCT(type, region) Struct { #type, region, static_cast<uint32_t>(sizeof(type)), k##type }
// clang-format on

constexpr Struct kStructs[] = {
    WARM_STRUCT(Superblock, Region::tier),
    WARM_STRUCT(ControlPage, Region::tier),
    WARM_STRUCT(GenerationLine, Region::tier),
    WARM_STRUCT(IntentLine, Region::tier),
    WARM_STRUCT(NumbersLine, Region::tier),
    WARM_STRUCT(SlotLine, Region::tier),
    WARM_STRUCT(Quad, Region::tier),
    WARM_STRUCT(SegmentHeader, Region::segment),
    WARM_STRUCT(RecordHeader, Region::segment),
    WARM_STRUCT(IndexHeader, Region::index),
    WARM_STRUCT(Bucket, Region::index),
    WARM_STRUCT(FeedHeader, Region::feed),
    WARM_STRUCT(FeedEntry, Region::feed),
    WARM_STRUCT(StatusPage, Region::status),
    WARM_STRUCT(ResultsHeader, Region::results),
    WARM_STRUCT(DoneLine, Region::results),
    WARM_STRUCT(SessionEntry, Region::results),
    WARM_STRUCT(ResultCell, Region::results),
    WARM_STRUCT(ChannelHeader, Region::channel),
    WARM_STRUCT(CommitLine, Region::channel),
    WARM_STRUCT(LaneLock, Region::channel),
    WARM_STRUCT(RequestHeader, Region::channel),
    WARM_STRUCT(SessionRegion, Region::session),
    WARM_STRUCT(SessionHeader, Region::session),
    WARM_STRUCT(SessionCounters, Region::session),
    WARM_STRUCT(TouchRing, Region::session),
    WARM_STRUCT(TouchEntry, Region::session),
    WARM_STRUCT(MessageHeader, Region::control),
    WARM_STRUCT(Hello, Region::control),
    WARM_STRUCT(Welcome, Region::control),
    WARM_STRUCT(Refuse, Region::control),
    WARM_STRUCT(Segments, Region::control),
    WARM_STRUCT(SegmentsWanted, Region::control),
    WARM_STRUCT(IndexMessage, Region::control),
    WARM_STRUCT(PutMessage, Region::control),
    WARM_STRUCT(Bye, Region::control),
    WARM_STRUCT(Accept, Region::control),
    WARM_STRUCT(Watch, Region::control),
    WARM_STRUCT(SessionsWanted, Region::control),
    WARM_STRUCT(SessionReport, Region::control),
    WARM_STRUCT(SessionsMessage, Region::control),
};

#undef WARM_STRUCT

// FNV-1a, 64 bits.
class Fingerprint {
 public:
  constexpr void add(std::string_view text) noexcept {
    for (const char c : text) add_byte(static_cast<uint8_t>(c));
    add_byte(0);
  }
  constexpr void add(uint64_t value) noexcept {
    for (unsigned i = 0; i < 64; i += 8) add_byte(static_cast<uint8_t>(value >> i));
  }
  [[nodiscard]] constexpr uint64_t value() const noexcept { return value_; }

 private:
  constexpr void add_byte(uint8_t byte) noexcept { value_ = (value_ ^ byte) * 0x0000'0100'0000'01B3ULL; }
  uint64_t value_ = 0xCBF2'9CE4'8422'2325ULL;
};

// What decides where a region's structs lie, beside their own bytes.
constexpr void add_geometry(Fingerprint& print, Region region) noexcept {
  switch (region) {
    case Region::tier:
      print.add(kTierHeaderBytes);
      print.add(kSlotsPerChunk);
      break;
    case Region::index: print.add(kIndexTailBuckets); break;
    case Region::results:
      print.add(kSessionsPerChannel);
      print.add(kCellsPerSession);
      break;
    case Region::channel:
      print.add(kLaneEntries);
      print.add(kLaneEntryBytes);
      break;
    case Region::feed:
      print.add(kFeedIdUnitBytes);
      print.add(kIdBytesMax);
      break;
    case Region::segment:
    case Region::status:
    case Region::session:
    case Region::control: break;
  }
}

constexpr std::array<uint64_t, kRegions> make_fingerprints() noexcept {
  std::array<uint64_t, kRegions> prints{};
  for (uint32_t r = 0; r < kRegions; ++r) {
    const auto region = static_cast<Region>(r);
    Fingerprint print;
    print.add(region == Region::control ? kProtocolVersion : kFormatVersion);
    add_geometry(print, region);
    for (const Struct& s : kStructs) {
      if (s.region != region) continue;
      print.add(s.name);
      print.add(s.bytes);
      for (const Field& field : s.fields) {
        print.add(field.name);
        print.add(field.offset);
        print.add(field.bytes);
      }
    }
    prints[r] = print.value();
  }
  return prints;
}

constexpr std::array<uint64_t, kRegions> kFingerprints = make_fingerprints();

// Protocol 1 is the first.
constexpr std::array<Dialect, 1> kDialects = {{{.protocol_version = kProtocolVersion, .fingerprints = kFingerprints}}};

}  // namespace

std::span<const Struct> all_structs() noexcept { return kStructs; }

const char* region_name(Region region) noexcept {
  switch (region) {
    case Region::tier: return "tier";
    case Region::segment: return "segment";
    case Region::index: return "index";
    case Region::feed: return "feed";
    case Region::status: return "status";
    case Region::results: return "results";
    case Region::channel: return "channel";
    case Region::session: return "session";
    case Region::control: return "control";
  }
  return "?";
}

std::array<uint64_t, kRegions> fingerprints() noexcept { return kFingerprints; }

std::span<const Dialect> dialects() noexcept { return kDialects; }

}  // namespace warmtier::layout
