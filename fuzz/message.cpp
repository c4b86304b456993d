// Input: one packet of the control socket.
#include <cstring>

#include "base/assert.hpp"
#include "layout/validate.hpp"

using namespace warmtier::layout;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n) {
  const Verdict verdict = validate_message(std::as_bytes(std::span(data, n)));
  if (verdict != Verdict::good) return 0;
  MessageHeader header;
  WARM_ASSERT(n >= sizeof header);
  std::memcpy(&header, data, sizeof header);
  WARM_ASSERT(header.bytes == n && n <= kMessageBytesMax);
  switch (static_cast<MessageKind>(header.kind)) {
    case MessageKind::hello: WARM_ASSERT(n == sizeof(Hello)); break;
    case MessageKind::welcome: WARM_ASSERT(n == sizeof(Welcome)); break;
    case MessageKind::refuse: {
      Refuse m;
      std::memcpy(&m, data, sizeof m);
      WARM_ASSERT(n == sizeof m && std::memchr(m.text, 0, sizeof m.text) != nullptr);
      break;
    }
    case MessageKind::segments: {
      Segments m{};
      WARM_ASSERT(n <= sizeof m);
      std::memcpy(&m, data, n);
      WARM_ASSERT(m.count <= kSegmentsPerMessage && n >= offsetof(Segments, numbers) + m.count * sizeof m.numbers[0]);
      break;
    }
    case MessageKind::index: {
      IndexMessage m;
      WARM_ASSERT(n == sizeof m);
      std::memcpy(&m, data, sizeof m);
      WARM_ASSERT(m.homes_log2 >= kIndexHomesLog2Min && m.homes_log2 <= kIndexHomesLog2Max);
      break;
    }
    case MessageKind::put: {
      PutMessage m;
      std::memcpy(&m, data, sizeof m);
      WARM_ASSERT(n == sizeof m + m.request.dimensions * sizeof(float) + m.request.id_bytes);
      break;
    }
    case MessageKind::watch: {
      Watch m;
      WARM_ASSERT(n == sizeof m);
      std::memcpy(&m, data, sizeof m);
      WARM_ASSERT(m.checkpoint <= 1 && m.reserved == 0);
      break;
    }
    case MessageKind::sessions_wanted: WARM_ASSERT(n == sizeof(SessionsWanted)); break;
    case MessageKind::sessions: {
      SessionsMessage m{};
      WARM_ASSERT(n <= sizeof m);
      std::memcpy(&m, data, n);
      WARM_ASSERT(m.count <= kSessionsPerMessage && n == offsetof(SessionsMessage, reports) + m.count * sizeof m.reports[0]);
      break;
    }
    case MessageKind::segments_wanted:
    case MessageKind::bye: WARM_ASSERT(n == sizeof(MessageHeader)); break;
    case MessageKind::accept: {
      Accept m;
      std::memcpy(&m, data, sizeof m);
      WARM_ASSERT(n == sizeof m && m.count <= kForsakenPerMessage);
      break;
    }
    default: WARM_ASSERT(false);
  }
  return 0;
}
