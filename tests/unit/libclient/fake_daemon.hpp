// A daemon of the test's own: the regions of one small store in memfds, and a thread that answers the handshake. It carries
// nothing out by itself, so that a test can store what a real daemon never would, or would only for a moment.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "layout/control.hpp"
#include "layout/layout.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::tests {

constexpr uint32_t kDimensions = 16;
constexpr uint32_t kHomesLog2 = layout::kIndexHomesLog2Min;
constexpr uint32_t kLanes = layout::kLanesMin;
constexpr uint64_t kSegmentBytes = uint64_t{64} << 10;
constexpr uint64_t kHashSeed = 42;

// A record with nothing but its id. `id` outlives it.
inline warm_memory memory_of(std::string_view id) {
  static constexpr float kEmbedding[kDimensions] = {};
  warm_memory memory = WARM_MEMORY_INIT;
  memory.id = id.data();
  memory.id_bytes = id.size();
  memory.embedding = kEmbedding;
  memory.dimensions = kDimensions;
  return memory;
}

struct Region {
  base::Fd file;
  base::WriteMapping map;
  explicit Region(size_t bytes);
  template <typename T>
  T& as(size_t offset = 0) const {
    return *reinterpret_cast<T*>(map.data() + offset);
  }
};

class FakeDaemon {
 public:
  FakeDaemon();
  ~FakeDaemon();
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;

  [[nodiscard]] const std::string& socket() const { return socket_; }

  // ---- The store.
  layout::SlotLine& line(uint32_t slot) { return tier_.as<layout::SlotLine>(geometry_.line_offset(slot)); }
  layout::Bucket& home_of(std::string_view id);
  layout::GenerationLine& generation() { return tier_.as<layout::ControlPage>(layout::kControlPageOffset).generation; }
  layout::StatusPage& status() { return status_.as<layout::StatusPage>(); }
  layout::SessionRegion& session(uint32_t index) { return sessions_.at(index)->as<layout::SessionRegion>(); }
  layout::ResultCell& cell(uint32_t session_index, uint32_t cell);
  layout::CommitLine& commits(uint32_t lane);
  layout::LaneLock& lock(uint32_t lane);
  layout::DoneLine& done(uint32_t lane);
  layout::SessionEntry& entry(uint32_t index);
  const layout::RequestHeader& request(uint32_t lane, uint64_t number);
  // A record in its line and in a segment, not in the index.
  void write_record(uint32_t slot, uint64_t sequence, std::string_view id, std::string_view content, uint64_t segment);
  // And in the index, at the first free cell of its home.
  uint64_t& publish(uint32_t slot, std::string_view id);
  void put(uint32_t slot, uint64_t sequence, std::string_view id, std::string_view content, uint64_t segment = 1);
  void add_segment(uint64_t number, bool listed = true);
  void unlist_segment(uint64_t number);
  void raise_segment_epoch();
  // A new table with the same entries, and the generation that goes with it; `announce` first.
  void announce_index(uint64_t generation);

  // ---- The daemon's life.
  void hang_up();                      // ends all connections, as a death does
  void set_resume(bool takes_back) { takes_back_ = takes_back; }
  void set_views_max(uint32_t views) { views_max_ = views; }  // that the next welcome grants
  void set_access(layout::Access access) { access_ = static_cast<uint32_t>(access); }
  [[nodiscard]] uint32_t hellos() const { return hellos_.load(); }
  [[nodiscard]] uint32_t lists_sent() const { return lists_.load(); }
  // Messages of other kinds that clients sent, in order, with descriptors closed.
  std::vector<std::vector<std::byte>> received();
  std::vector<layout::Accept> accepts();  // of each welcome
  void await_received(size_t count);

 private:
  struct Peer {
    base::Fd socket;
    uint32_t index = 0;
  };
  void run();
  void greet();
  bool answer(Peer& peer);
  bool send(int socket, const void* bytes, size_t n, const std::vector<int>& files);
  bool send_list(int socket);

  std::string directory_;
  std::string socket_;
  layout::Geometry geometry_;
  Region tier_;
  Region index_;
  Region feed_;
  Region status_;
  Region results_;
  Region channel_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Region>> sessions_;
  std::map<uint64_t, std::unique_ptr<Region>> segments_;
  std::map<uint64_t, uint64_t> used_bytes_;
  std::vector<uint64_t> listed_;
  std::vector<Peer> peers_;
  std::vector<std::vector<std::byte>> received_;
  std::vector<layout::Accept> accepts_;
  std::atomic<bool> takes_back_{true};
  std::atomic<uint32_t> access_{static_cast<uint32_t>(layout::Access::write)};
  std::atomic<uint32_t> views_max_{layout::kViewsMax};
  std::atomic<uint32_t> hellos_{0};
  std::atomic<uint32_t> lists_{0};
  std::atomic<uint32_t> received_count_{0};
  base::Fd listener_;
  base::Fd wake_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace warmtier::tests
