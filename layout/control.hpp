// Messages on the control socket (SOCK_SEQPACKET). One message is one packet; every one but those of one byte starts with
// a MessageHeader. What comes from a client is hostile input.
//
//   client                          daemon
//   hello [channel, session] ------>              the two descriptors only to resume an earlier session
//                          <------ welcome [tier, index, feed, status, results, channel, session] or refuse
//   accept                 ------>                the session is mapped; and which of this process's sessions are over
//                          <------ segments [..]  one or more, the last says so; all known segments; the session is live
//   segments_wanted        ------> segments [..]  the same list anew, with `epoch`
//                          <------ index [index]  a larger table; the generation changes after it was sent
//   put [content memfd]    ------>                content that does not fit a lane; answered in its result cell
//   sessions_wanted        ------> sessions [..]  who holds what: one or more, the last says so
//   watch                  ------>                the futex of the status page wakes when what is awaited has come
//   one byte               ------>                doorbell: the status page said that the daemon sleeps
//                          <------ one byte       the session asked to be told of an answer (SessionRegion::notify)
//   bye                    ------>                the session ends; its pins are void
#pragma once

#include <cstdint>

#include "layout/layout.hpp"

namespace warmtier::layout {

constexpr uint32_t kProtocolVersion = 1;
constexpr uint32_t kMessageBytesMax = sizeof(RequestHeader) + 64 + kDimensionsMax * 4 + kIdBytesMax;
constexpr uint32_t kSegmentsPerMessage = 200;  // at most 253 descriptors travel in one message
constexpr uint32_t kSessionsPerMessage = 48;
constexpr uint8_t kDoorbellByte = 'D';
constexpr uint8_t kNotifyByte = 'N';

enum class MessageKind : uint32_t {
  hello = 1,
  welcome = 2,
  refuse = 3,
  segments = 4,
  segments_wanted = 5,
  index = 6,
  put = 7,
  bye = 8,
  accept = 9,
  watch = 10,
  sessions_wanted = 11,
  sessions = 12
};

// Regions whose fingerprints the handshake compares, in this order.
enum class Region : uint32_t { tier = 0, segment, index, feed, status, results, channel, session, control };
constexpr uint32_t kRegions = 9;

struct MessageHeader {
  uint32_t kind;   // MessageKind
  uint32_t bytes;  // of the whole message
};

struct Hello {
  MessageHeader header;
  uint32_t protocol_version;
  uint32_t flags;  // zero
  uint64_t fingerprints[kRegions];
  uint64_t namespace_device;  // the client's PID namespace; the daemon cannot read it across users
  uint64_t namespace_inode;
  uint64_t resume_session;  // 0: a new session; else number, entry and channel of the one whose descriptors come along
  uint64_t resume_channel;
  uint32_t resume_index;
  uint32_t reserved;
};

struct Welcome {
  MessageHeader header;
  uint32_t protocol_version;
  uint32_t daemon_pid;
  uint64_t session;
  uint64_t channel;
  uint32_t session_index;
  uint32_t lanes;
  uint32_t resumed;  // 1: session and channel are the ones that were handed back
  uint32_t access;   // Access
  uint64_t generation;
  uint64_t capacity;
  uint64_t content_bytes_max;
  uint64_t hash_seed;
  uint8_t store_id[16];
  uint32_t dimensions;
  uint32_t homes_log2;
  uint64_t socket_done;
  uint32_t views_max;  // granted to the session: pins in its first cells, so many of them, count
  uint32_t reserved;
};
constexpr uint32_t kWelcomeDescriptors = 7;

enum class Access : uint32_t { none = 0, read = 1, write = 2, admin = 3 };

struct Refuse {
  MessageHeader header;
  int32_t code;  // WARM_E_*
  uint32_t protocol_version;
  char text[248];  // a sentence, zero-terminated
};

struct Segments {
  MessageHeader header;
  uint64_t epoch;   // of the status page when the list was made
  uint32_t count;   // numbers and descriptors in this message
  uint32_t last;    // 1: the list is complete
  uint64_t numbers[kSegmentsPerMessage];
};

struct SegmentsWanted {
  MessageHeader header;
};

struct IndexMessage {
  MessageHeader header;
  uint64_t generation;  // the value that makes this table the one to use
  uint32_t homes_log2;
  uint32_t reserved;
};

// Followed by embedding, id; one descriptor: a memfd sealed against SHRINK, GROW and WRITE that holds content_bytes bytes.
struct PutMessage {
  MessageHeader header;
  uint64_t number;  // rises by 1 in a session from 1; <= socket_done: was carried out
  uint64_t reserved[6];
  RequestHeader request;
};
static_assert(sizeof(PutMessage) == 64 + sizeof(RequestHeader));
static_assert(sizeof(Hello) == 16 + 72 + 32 + 8 && sizeof(Welcome) == 120 && sizeof(Refuse) == 264);

// Wake the futex words of the status page: `sequence` when it is above `sequence_after`, `sequence_durable` when it is above
// `durable_after` or durability has stopped. Once; who wants to hear of the next one asks again.
struct Watch {
  MessageHeader header;
  uint64_t sequence_after;  // kWatchNothing: not asked for
  uint64_t durable_after;
  uint32_t checkpoint;  // 1: begin one now; of who may administer, else without effect
  uint32_t reserved;
};
constexpr uint64_t kWatchNothing = ~uint64_t{0};

struct SessionsWanted {
  MessageHeader header;
  uint64_t question;  // comes back in the answer; rises on a socket
};

enum class SessionPresence : uint32_t {
  attached = 1,
  silent = 2,   // its socket has ended, its process lives
  unknown = 3,  // of an earlier daemon; it has not handed back its pins
};

struct SessionReport {
  uint64_t session;
  uint64_t channel;
  uint64_t since_ns;
  uint64_t views;
  uint64_t view_bytes;
  uint64_t gets;    // as its process says: untrusted
  uint64_t misses;  // as its process says: untrusted
  uint32_t pid;     // as the daemon sees it; 0: it cannot
  uint32_t uid;
  uint32_t presence;  // SessionPresence
  uint32_t views_max; // that it was granted
};

struct SessionsMessage {
  MessageHeader header;
  uint64_t question;
  uint32_t count;
  uint32_t last;  // 1: the list is complete
  SessionReport reports[kSessionsPerMessage];
};
static_assert(sizeof(SessionReport) == 72 && sizeof(SessionsMessage) == 24 + kSessionsPerMessage * 72);

struct Bye {
  MessageHeader header;
};

// Answers a welcome. Sessions of the same process that it has given up without a daemon's knowing: their pins are void.
constexpr uint32_t kForsakenPerMessage = 16;
struct Accept {
  MessageHeader header;
  uint32_t count;  // of `sessions`
  uint32_t reserved;
  uint64_t sessions[kForsakenPerMessage];  // numbers; zeros behind the last
};
static_assert(sizeof(Accept) == 16 + 8 * kForsakenPerMessage);

}  // namespace warmtier::layout
