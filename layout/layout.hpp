// THE CONTRACT: every byte that two processes or two runs share.
//
// | region  | lives in                  | daemon     | client    | trusted by   | lives as long as        |
// |---------|---------------------------|------------|-----------|--------------|-------------------------|
// | tier    | file warm.tier            | read-write | read-only | daemon       | the store               |
// | segment | files content/N.seg       | read-write | read-only | daemon       | a live record in it     |
// | index   | memfd                     | read-write | read-only | daemon       | one table of one daemon |
// | feed    | memfd                     | read-write | read-only | daemon       | one daemon              |
// | status  | memfd                     | read-write | read-only | daemon       | one daemon              |
// | results | files channels/N.state    | read-write | read-only | daemon       | the channel             |
// | channel | memfd                     | read-write | read-write| nobody       | the channel             |
// | session | memfd                     | read-write | read-write| nobody       | the session             |
//
// Laws. Little-endian, fixed widths, offsets and no pointers. A magic is written last: it publishes its region. Reserved bytes
// are zero. What a client may write is hostile input for the daemon: copied once, the copy validated, the copy used. What bumps
// kFormatVersion: any change of size, offset, order of stores or meaning in tier, segment or results. What bumps a region's
// fingerprint: the same, computed from describe.cpp's table. docs/format.md holds the byte tables; a test compares them.
#pragma once

#include <pthread.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "layout/limits.hpp"
#include "layout/shared.hpp"
#include "layout/words.hpp"

namespace warmtier::layout {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the layout is little-endian");

constexpr uint32_t kFormatVersion = 1;

constexpr uint64_t kTierMagic = 0x5245'4954'4D52'4157;     // "WARMTIER"
constexpr uint64_t kSegmentMagic = 0x4745'534D'5241'57FF;
constexpr uint64_t kIndexMagic = 0x5844'494D'5241'57FF;
constexpr uint64_t kFeedMagic = 0x4445'454D'5241'57FF;
constexpr uint64_t kStatusMagic = 0x5453'544D'5241'57FF;
constexpr uint64_t kResultsMagic = 0x5345'524D'5241'57FF;
constexpr uint64_t kChannelMagic = 0x4E48'434D'5241'57FF;
constexpr uint64_t kSessionMagic = 0x5353'534D'5241'57FF;

// ---- tier: superblocks, control page, chunks --------------------------------------------------------------------------------

// Two copies on pages 0 and 1, written alternately; the valid one with the higher epoch holds.
struct Superblock {
  uint64_t magic;
  uint32_t format_version;
  uint32_t superblock_bytes;
  uint64_t incompatible_flags;   // an unknown bit refuses the store
  uint64_t compatible_flags;     // an unknown bit is kept
  uint64_t epoch;                // rises by 1 with each superblock written
  uint64_t checkpoint_sequence;  // C: everything up to here is on the device
  uint8_t store_id[16];          // random, for ever
  uint64_t hash_seed;            // of the index and of the ids' hashes, for ever
  uint64_t capacity;             // slots at most
  uint32_t dimensions;
  uint32_t row_bytes;            // dimensions * 4 rounded up to 64
  uint32_t sketch_bytes;         // per slot; 0: no such column
  uint32_t chunk_slots;          // kSlotsPerChunk
  uint64_t segment_bytes;        // length of an ordinary content segment
  uint64_t chunks_allocated;     // as of this superblock; the file may be longer
  uint64_t next_segment;         // as of this superblock; the control page may be further
  uint64_t next_session;
  uint64_t next_channel;
  uint8_t boot_id[16];           // of the boot in which the maps were last right
  uint64_t mount_device;         // and of the mount (st_dev, mount namespace, mount id)
  uint64_t mount_namespace;      // its number, which never repeats in a boot; 0: unknown
  uint64_t mount_id;
  uint64_t created_ns;
  uint64_t log_nonce;            // incarnation of the log; 0: the store has no log
  uint64_t log_first;
  uint64_t log_bytes;
  uint64_t clean_stop;           // 1: written by a stopping daemon
  uint8_t reserved[3872];
  uint64_t checksum;             // hash64 over everything before it, seed 0
};
static_assert(sizeof(Superblock) == kPageBytes);
static_assert(offsetof(Superblock, checksum) == kPageBytes - 8);

struct GenerationLine {
  uint64_t generation;  // writer: store thread; order: seq_cst; law: compared for equality only; 0 = closed
  uint64_t reserved[7];
};
static_assert(sizeof(GenerationLine) == kCacheLineBytes);

enum class IntentKind : uint32_t { put = 1, replace = 2, remove = 3, update = 4, move = 5 };
constexpr uint32_t kIntentLaneSocket = 0xFFFF'FFFF;  // the request came by the socket; `number` is the session's socket number
constexpr uint32_t kIntentLaneNone = 0xFFFF'FFFE;    // no request: a move or an eviction
constexpr uint32_t kNoSlot = 0xFFFF'FFFF;

// The one operation in progress. writer: store thread; order: state := 0, fields, state := sequence (release).
struct IntentLine {
  uint64_t state;          // 0: none; else the operation's sequence
  uint32_t kind;           // IntentKind
  uint32_t channel;        // number of the channel
  uint32_t lane;           // lane, kIntentLaneSocket or kIntentLaneNone
  uint32_t session_index;  // entry of the session table
  uint64_t number;         // request number in the lane, or on the socket
  uint64_t session;        // session number
  uint64_t ticket;
  uint32_t cell;           // result cell
  int32_t status;          // what the answer will say
  uint32_t old_slot;       // that dies, or is updated; kNoSlot: none
  uint32_t new_slot;       // kNoSlot: none
  Quad quad;               // update: the new absolute values
  uint64_t created_ns;
  uint64_t last_access_ns;
  uint64_t locator;        // move: the new locator word
  uint64_t reserved[3];
};
static_assert(sizeof(IntentLine) == 2 * kCacheLineBytes);

// Numbers that never repeat, ahead of the superblock. writer: store thread; order: release, before the number is used.
struct NumbersLine {
  uint64_t next_segment;
  uint64_t next_session;
  uint64_t next_channel;
  uint64_t device_recovery;  // 1: the next start must recover from the device (an I/O error was seen)
  uint64_t last_update;      // sequence of the last update: nothing else carries it once the intent is gone
  uint64_t reserved[3];
};
static_assert(sizeof(NumbersLine) == kCacheLineBytes);

struct ControlPage {
  GenerationLine generation;
  uint8_t reserved0[192];
  IntentLine intent;  // 256 bytes from the generation
  uint8_t reserved1[128];
  NumbersLine numbers;
  uint8_t reserved2[3520];
};
static_assert(sizeof(ControlPage) == kPageBytes);
static_assert(offsetof(ControlPage, intent) - offsetof(ControlPage, generation) >= 128);

constexpr size_t kSuperblockOffsets[2] = {0, kPageBytes};
constexpr size_t kControlPageOffset = 2 * kPageBytes;
constexpr size_t kTierHeaderBytes = 65536;

// One record's line: a cache line. Words above `quad` but dead, and length and checksum, are written once before put.
struct SlotLine {
  uint64_t put;             // writer: store thread; order: release, last; law: 0 = free, never repeats
  uint64_t dead;            // writer: store thread; order: release, after the index cell; law: never reset
  uint64_t locator;         // one store moves content
  uint64_t created_ns;
  Quad quad;                // one 16-byte access
  uint64_t last_access_ns;
  uint32_t content_bytes;   // of the content as the caller gave it
  uint32_t checksum;        // low half of payload_checksum()
};
static_assert(sizeof(SlotLine) == kCacheLineBytes && alignof(SlotLine) == 16);
static_assert(offsetof(SlotLine, quad) == 32 && offsetof(SlotLine, last_access_ns) == 48 && offsetof(SlotLine, checksum) == 60);

// Where things lie in warm.tier. A value, computed from the superblock; not shared.
struct Geometry {
  uint32_t dimensions = 0;
  uint32_t row_bytes = 0;
  uint64_t capacity = 0;
  uint64_t chunk_bytes = 0;

  static constexpr Geometry of(uint32_t dimensions, uint64_t capacity) noexcept {
    Geometry g;
    g.dimensions = dimensions;
    g.row_bytes = (dimensions * 4 + 63) / 64 * 64;
    g.capacity = capacity;
    g.chunk_bytes = uint64_t{kSlotsPerChunk} * (sizeof(SlotLine) + g.row_bytes);
    return g;
  }
  [[nodiscard]] constexpr uint64_t chunks_max() const noexcept { return (capacity + kSlotsPerChunk - 1) / kSlotsPerChunk; }
  [[nodiscard]] constexpr uint64_t chunk_offset(uint64_t chunk) const noexcept { return kTierHeaderBytes + chunk * chunk_bytes; }
  [[nodiscard]] constexpr uint64_t file_bytes(uint64_t chunks) const noexcept { return chunk_offset(chunks); }
  [[nodiscard]] constexpr uint64_t line_offset(uint32_t slot) const noexcept {
    return chunk_offset(slot / kSlotsPerChunk) + uint64_t{slot % kSlotsPerChunk} * sizeof(SlotLine);
  }
  [[nodiscard]] constexpr uint64_t row_offset(uint32_t slot) const noexcept {
    return chunk_offset(slot / kSlotsPerChunk) + kSlotsPerChunk * sizeof(SlotLine) + uint64_t{slot % kSlotsPerChunk} * row_bytes;
  }
};

// ---- segment: a header, then records ----------------------------------------------------------------------------------------

struct SegmentHeader {
  uint64_t magic;
  uint32_t format_version;
  uint32_t header_bytes;
  uint64_t number;         // also the file's name; never repeats in a store
  uint64_t segment_bytes;  // length of the file
  uint8_t store_id[16];
  uint64_t created_ns;
  uint64_t checksum;       // hash64 over everything before it, seed 0
};
static_assert(sizeof(SegmentHeader) == 64);

constexpr uint8_t kRecordContentAbsent = 1;  // flags: no content, which is not "empty"
constexpr uint8_t kRecordFlagsKnown = kRecordContentAbsent;
constexpr uint8_t kCodecRaw = 0;

// A content record: this header, the id, the stored content; the next one starts on an 8-byte boundary.
struct RecordHeader {
  uint64_t put;               // word, as in the line
  uint64_t hash;              // of the id
  uint64_t created_ns;
  uint32_t header_checksum;   // over this header (this field 0), the id, and the line's length and checksum
  uint32_t content_checksum;  // low half of hash64 over the stored content, seed 0
  uint32_t stored_bytes;      // of the content as it is stored
  uint16_t id_bytes;
  uint8_t codec;
  uint8_t flags;
};
static_assert(sizeof(RecordHeader) == 40);

constexpr uint64_t record_bytes(uint64_t id_bytes, uint64_t stored_bytes) noexcept {
  return (sizeof(RecordHeader) + id_bytes + stored_bytes + 7) / 8 * 8;
}

// ---- index ------------------------------------------------------------------------------------------------------------------

struct IndexHeader {
  uint64_t magic;
  uint32_t format_version;
  uint32_t homes_log2;
  uint64_t buckets;     // homes + kIndexTailBuckets
  uint64_t hash_seed;
  uint8_t reserved[4064];
};
static_assert(sizeof(IndexHeader) == kPageBytes);

struct Bucket {
  uint64_t cells[kIndexCells];  // writer: store thread; order: release; law: an id never changes its cell
  uint64_t distances;           // bit d - 1: an entry of this home lies at distance d; set before it, cleared after the last
};
static_assert(sizeof(Bucket) == kCacheLineBytes);

constexpr uint64_t index_buckets(uint32_t homes_log2) noexcept { return (uint64_t{1} << homes_log2) + kIndexTailBuckets; }
constexpr uint64_t index_bytes(uint32_t homes_log2) noexcept {
  return sizeof(IndexHeader) + index_buckets(homes_log2) * sizeof(Bucket);
}

// ---- feed of changes --------------------------------------------------------------------------------------------------------

// Header, entries, one id word per entry, ring of ids. The ids stand apart because a removed record's slot is used again.
struct FeedHeader {
  uint64_t magic;
  uint32_t format_version;
  uint32_t entries_log2;
  uint32_t ids_log2;       // bytes of the ring of ids; kIdBytesMax more stand behind it, so that no id is split
  uint32_t reserved32;
  uint64_t sequence_base;  // the entry at kWrapStart + i has sequence_base + 1 + i: each change has one entry
  uint64_t reserved0[4];
  uint64_t head;     // writer: store thread; order: release; law: position of the next entry, starts at kWrapStart
  uint64_t ids_end;  // writer: store thread; order: relaxed, release fence, the bytes; law: unit up to which ids may stand
  uint8_t reserved1[4016];
};
static_assert(sizeof(FeedHeader) == kPageBytes && offsetof(FeedHeader, head) == 64 && offsetof(FeedHeader, ids_end) == 72);

// One 16-byte store. Accepted iff the position is the one asked for.
struct alignas(16) FeedEntry {
  uint64_t change;  // sequence 48, kind 16
  uint64_t place;   // slot 32, low half of the position 32
};
static_assert(sizeof(FeedEntry) == 16);

inline void store_entry(FeedEntry& shared, const FeedEntry& value) noexcept {
  store_quad(reinterpret_cast<Quad&>(shared), std::bit_cast<Quad>(value));
}
inline FeedEntry load_entry(const FeedEntry& shared) noexcept {
  return std::bit_cast<FeedEntry>(load_quad(reinterpret_cast<const Quad&>(shared)));
}

// The word of an entry's id; words.hpp says what is in it.
constexpr uint64_t feed_id_words_offset(uint32_t entries_log2) noexcept {
  return sizeof(FeedHeader) + (uint64_t{1} << entries_log2) * sizeof(FeedEntry);
}
constexpr uint64_t feed_ids_offset(uint32_t entries_log2) noexcept {
  return feed_id_words_offset(entries_log2) + (uint64_t{1} << entries_log2) * sizeof(uint64_t);
}
constexpr uint64_t feed_bytes(uint32_t entries_log2, uint32_t ids_log2) noexcept {
  return feed_ids_offset(entries_log2) + (uint64_t{1} << ids_log2) + kIdBytesMax;
}

// ---- status page ------------------------------------------------------------------------------------------------------------

// writer of every field: store thread (sessions, channels and their deaths too); order: relaxed where no other is named.
struct StatusPage {
  uint64_t magic;
  uint32_t format_version;
  uint32_t io_backend;        // 1 io_uring, 2 threads
  uint32_t buffers_registered;
  uint32_t daemon_pid;        // as the daemon sees itself
  uint64_t started_ns;        // wall clock
  uint64_t reserved0[4];
  // Rarely written.
  uint64_t slots_allocated;   // order: release, before the first cell that needs it
  uint64_t segment_epoch;     // rises when a segment appears or goes; order: release, before a locator names it
  uint64_t content_bytes_max;
  uint64_t stopping;          // 1: the daemon is going down in order
  uint64_t reserved1[4];
  // The doorbell.
  uint64_t sleeping;          // 0: awake; else the number of this sleep; order: store, full fence, then the lanes once more
  uint64_t reserved2[7];
  // Written with every change.
  uint64_t sequence;          // of the last visible change; order: release, after the feed; a futex word in its low half
  uint64_t feed_head;
  uint64_t reserved3[6];
  uint64_t sequence_durable;  // order: release; a futex word for waiters in its low half
  uint64_t durability_stopped;  // 1: an I/O error was seen, sequence_durable rises no more; order: release
  uint64_t reserved4[6];
  // Counters.
  uint64_t records;
  uint64_t slots_free;
  uint64_t slots_waiting;
  uint64_t slots_held;
  uint64_t segments;
  uint64_t content_bytes_live;
  uint64_t content_bytes_total;
  uint64_t sessions;
  uint64_t channels;
  uint64_t puts;
  uint64_t removes;
  uint64_t refused;
  uint64_t gets;              // summed from sessions: untrusted
  uint64_t misses;            // summed from sessions: untrusted
  uint64_t lane_repairs;      // summed from sessions: untrusted
  uint64_t lanes_fenced;
  uint64_t pins_voided;
  uint64_t sessions_ended;
  uint64_t checkpoints;
  uint64_t index_doublings;
  uint64_t requests_recovered;
  uint64_t bad_requests;
  uint64_t damaged_records;
  uint64_t spin_ns;
  uint64_t orphans;           // sessions of an earlier daemon whose process lives and has not handed back its pins
  uint64_t slots_prepared;    // free slots whose pages are populated: a put into them meets no fault
  uint64_t updates;
  uint64_t touches;           // applied
  uint64_t touches_dropped;   // overrun, or as the clients say: untrusted
  uint64_t reserved5[443];
};
static_assert(sizeof(StatusPage) == kPageBytes);
static_assert(offsetof(StatusPage, slots_allocated) == 64 && offsetof(StatusPage, sleeping) == 128);
static_assert(offsetof(StatusPage, sequence) == 192 && offsetof(StatusPage, sequence_durable) == 256);

// ---- results: executed numbers, session table, result cells -----------------------------------------------------------------

struct ResultsHeader {
  uint64_t magic;
  uint32_t format_version;
  uint32_t lanes;
  uint64_t channel;          // number; never repeats in a store
  uint64_t memfd_device;     // of the channel's memfd
  uint64_t memfd_inode;
  uint64_t namespace_device; // PID namespace, as the clients state it
  uint64_t namespace_inode;
  uint32_t uid;
  uint32_t sessions_max;
  uint8_t store_id[16];
  uint8_t boot_id[16];       // a file of another boot is of no use: no process of it lives
  // PID namespace in which the entries' pids are processes; 0: not known. writer: a starting daemon; order: release, when the
  // pids of another one are forgotten; law: no pid of an entry is of another namespace.
  uint64_t daemon_namespace_device;
  uint64_t daemon_namespace_inode;
  uint8_t reserved[3984];
};
static_assert(sizeof(ResultsHeader) == kPageBytes);

struct DoneLine {
  uint64_t done;  // writer: store thread; order: release, after the result; law: the last executed number of the lane
  uint64_t reserved[7];
};
static_assert(sizeof(DoneLine) == kCacheLineBytes);

enum class SessionState : uint32_t { none = 0, live = 1, dead = 2, offered = 3 };

// writer: store thread; order of a new tenant: number, then state := offered; live when its client has accepted. Law: nothing
// is pinned or published in a session that is not live yet, so one that a dead daemon only offered is void.
struct SessionEntry {
  uint64_t number;
  uint32_t state;         // SessionState: none or dead, offered, live, dead
  uint32_t pid;           // as the daemon sees it; 0: it cannot
  uint64_t start_time;    // of the process, clock ticks since boot
  uint64_t pidfs_inode;   // 0: the kernel has none
  uint64_t socket_done;   // last executed socket number
  uint64_t memfd_device;  // of the session's memfd
  uint64_t memfd_inode;
  uint64_t since_ns;      // wall clock, when it attached first
  uint64_t touches_taken; // position up to which its touch ring was read; order: release, after the entries
  uint32_t views_max;     // granted to the session; law: the same as long as it lives, also over daemons
  uint32_t reserved0;
  uint64_t reserved[6];
};
static_assert(sizeof(SessionEntry) == 128 && offsetof(SessionEntry, views_max) == 72);

// writer: store thread; order: status and sequence, then number := ticket (release). A futex word in its low half.
struct ResultCell {
  uint64_t number;    // ticket of the last answer; starts at kWrapStart - 1
  uint64_t sequence;  // of the operation, or of the record that refused it; WARM_E_FULL: a shortage_word
  int32_t status;     // WARM_OK or WARM_E_*
  uint32_t slot;      // WARM_E_FULL: pid of one of the sessions that are awaited; 0: none, or it cannot be seen
  uint64_t limit;     // WARM_E_LIMIT and WARM_E_FULL: the limit that was met; of a clear: the records removed
};
static_assert(sizeof(ResultCell) == 32);

constexpr uint64_t results_sessions_offset(uint32_t lanes) noexcept {
  return sizeof(ResultsHeader) + (uint64_t{lanes} * sizeof(DoneLine) + kPageBytes - 1) / kPageBytes * kPageBytes;
}
constexpr uint64_t results_cells_offset(uint32_t lanes) noexcept {
  return results_sessions_offset(lanes) + uint64_t{kSessionsPerChannel} * sizeof(SessionEntry);
}
constexpr uint64_t results_bytes(uint32_t lanes) noexcept {
  return results_cells_offset(lanes) + uint64_t{kSessionsPerChannel} * kCellsPerSession * sizeof(ResultCell);
}

// ---- channel: lanes. Every byte is hostile input for the daemon -------------------------------------------------------------

struct ChannelHeader {
  uint64_t magic;
  uint32_t format_version;
  uint32_t lanes;
  uint64_t channel;
  uint8_t reserved[4072];
};
static_assert(sizeof(ChannelHeader) == kPageBytes);

// The commit words of one lane. writer: the claim's holder; order: release, rising; law: entry n is there iff seq[n mod 8] == n.
struct CommitLine {
  uint64_t seq[kLaneEntries];
};
static_assert(sizeof(CommitLine) == kCacheLineBytes);

struct LaneLock {
  pthread_mutex_t mutex;  // robust, process-shared; the daemon never locks it
  uint64_t holder;        // session number inside the claim; 0: nobody
  uint32_t holder_tid;    // thread of the claim, as the client sees itself
  uint32_t fenced;        // 1: nobody claims here any more; the daemon serves what is published
  uint64_t busy_since_ns; // a client's first sight of it busy (monotonic); 0: not busy
  uint64_t reserved[8];
};
static_assert(sizeof(pthread_mutex_t) == 40 || sizeof(pthread_mutex_t) == 48);
static_assert(sizeof(LaneLock) >= 128);

enum class Operation : uint16_t { put = 1, remove = 2, update = 3, clear = 4 };

// What a request says. In a lane it is followed by embedding (dimensions * 4 bytes), id, content; in a message by embedding, id.
struct RequestHeader {
  uint64_t session;        // number
  uint64_t ticket;
  uint32_t session_index;
  uint32_t cell;
  uint16_t operation;      // Operation
  uint16_t condition;      // WARM_IF_*
  uint32_t given;          // put: WARM_GIVEN_*; update: WARM_SET_*
  uint32_t id_bytes;       // 0: none (clear)
  uint32_t dimensions;     // 0: no embedding (all but put)
  uint64_t content_bytes;
  uint64_t if_sequence;
  uint64_t created_ns;
  uint64_t last_access_ns;
  uint64_t reserved0;
  Quad quad;
  uint64_t reserved[4];
};
static_assert(sizeof(RequestHeader) == 128 && alignof(RequestHeader) == 16);

constexpr uint64_t kLaneEntryBytes = sizeof(RequestHeader) + kLanePayloadBytes + 64;  // no power of two: cache sets
static_assert(kLaneEntryBytes % kCacheLineBytes == 0);

constexpr uint64_t channel_commits_offset() noexcept { return sizeof(ChannelHeader); }
constexpr uint64_t channel_locks_offset(uint32_t lanes) noexcept {
  return channel_commits_offset() + (uint64_t{lanes} * sizeof(CommitLine) + kPageBytes - 1) / kPageBytes * kPageBytes;
}
constexpr uint64_t channel_entries_offset(uint32_t lanes) noexcept {
  return channel_locks_offset(lanes) + (uint64_t{lanes} * sizeof(LaneLock) + kPageBytes - 1) / kPageBytes * kPageBytes;
}
constexpr uint64_t channel_entry_offset(uint32_t lanes, uint32_t lane, uint64_t number) noexcept {
  return channel_entries_offset(lanes) + (uint64_t{lane} * kLaneEntries + number % kLaneEntries) * kLaneEntryBytes;
}
constexpr uint64_t channel_bytes(uint32_t lanes) noexcept {
  return (channel_entries_offset(lanes) + uint64_t{lanes} * kLaneEntries * kLaneEntryBytes + kPageBytes - 1) / kPageBytes *
         kPageBytes;
}

// ---- session: one process. Every byte is hostile input for the daemon -------------------------------------------------------

// Frozen for all versions: pins are honoured by every later daemon.
struct SessionHeader {
  uint64_t magic;
  uint32_t format_version;
  uint32_t pin_cells;      // kViewsMax
  uint64_t session;        // number
  uint64_t pins_offset;
  uint64_t reserved0[4];
  uint32_t pins_high;      // writer: the process; order: raised before the pin is stored; law: never lowered
  uint32_t reserved1[15];
  uint8_t reserved2[3968];
};
static_assert(sizeof(SessionHeader) == kPageBytes && offsetof(SessionHeader, pins_high) == 64);

struct SessionCounters {
  uint64_t gets;
  uint64_t misses;
  uint64_t lane_repairs;
  uint64_t lanes_fenced;
  uint64_t reattaches;
  uint64_t touches_dropped;  // that found the ring full
  uint64_t reserved[506];
};
static_assert(sizeof(SessionCounters) == kPageBytes);

// What an entry of the touch ring says of its record.
enum class TouchKind : uint16_t { get = 0, touch = 1 };  // get: one of many, for hotness; touch: it was used

// Lossy; read by the daemon when it likes.
struct alignas(16) TouchEntry {
  uint64_t put;      // sequence of the record 48, TouchKind 16
  uint32_t slot;
  uint32_t position; // low half of the entry's position
};
static_assert(sizeof(TouchEntry) == 16);
inline void store_entry(TouchEntry& shared, const TouchEntry& value) noexcept {
  store_quad(reinterpret_cast<Quad&>(shared), std::bit_cast<Quad>(value));
}
inline TouchEntry load_entry(const TouchEntry& shared) noexcept {
  return std::bit_cast<TouchEntry>(load_quad(reinterpret_cast<const Quad&>(shared)));
}
struct TouchRing {
  uint64_t head;     // writer: the process; starts at kWrapStart
  uint64_t asked;  // behind the last touch: what the daemon is to come for; writer: the process; order: raised after its entry
  uint64_t reserved[6];
  TouchEntry entries[kTouchEntries];
};

struct SessionRegion {
  SessionHeader header;
  SessionCounters counters;
  uint32_t sleep[kCellsPerSession];  // per result cell: how many threads sleep on it. writer: client
  uint32_t notify;  // 1 = a byte on the socket with the next answer; the daemon clears it before it sends
  uint8_t reserved0[kPageBytes - kCellsPerSession * 4 - 4];
  TouchRing touches;
  uint8_t reserved1[4032];
  uint32_t pins[kViewsMax];  // slot + 1; 0 = no pin. order: exchange to pin, release to clear
};
static_assert(offsetof(SessionRegion, notify) == 9216, "a cache line of its own");
static_assert(offsetof(SessionRegion, sleep) == 8192 && offsetof(SessionRegion, touches) == 12288);
static_assert(offsetof(SessionRegion, pins) == 32768);
static_assert(sizeof(SessionRegion) % kPageBytes == 0);

static_assert(std::is_trivially_copyable_v<Superblock> && std::is_standard_layout_v<Superblock>);
static_assert(std::is_trivially_copyable_v<ControlPage> && std::is_standard_layout_v<ControlPage>);
static_assert(std::is_trivially_copyable_v<SlotLine> && std::is_trivially_copyable_v<StatusPage>);
static_assert(std::is_trivially_copyable_v<RequestHeader> && std::is_trivially_copyable_v<SessionRegion>);

}  // namespace warmtier::layout
