// A store in a temporary directory, driven as its daemon drives it, and a reader of its own that trusts only the shared bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/io/io.hpp"
#include "daemon/store/store.hpp"
#include "layout/layout.hpp"
#include "tests/support/chance.hpp"

namespace warmtier::tests {

class Pins : public daemon::store::PinSource {
 public:
  bool complete() override { return known; }
  uint64_t expected_until_ns() override { return expected_until; }
  void begin_scan() override { looked_ = false; }
  bool scan(uint32_t, const std::function<void(uint32_t)>& visit) override {
    if (!std::exchange(looked_, true)) {
      for (uint32_t slot : pinned) visit(slot);
    }
    return !slow;
  }
  Awaited awaited() override { return known ? Awaited{} : Awaited{.sessions = 2, .pid = 4711}; }
  std::set<uint32_t> pinned;
  bool known = true;
  uint64_t expected_until = 0;
  bool slow = false;  // a scan does not end, but all cells that it sees it has seen in its first step

 private:
  bool looked_ = false;
};

struct Seen {
  uint32_t slot = 0;
  uint64_t sequence = 0;
  std::vector<float> embedding;
  std::optional<std::string> content;
  layout::Quad quad{};
};

class Device;

class World {
 public:
  explicit World(const daemon::store::InitOptions& init = {.dimensions = 20, .capacity = 8192, .segment_bytes = 65536});
  ~World();

  // A daemon of this store comes and goes.
  void start(const daemon::store::Options& options = {.checkpoint_interval_ns = UINT64_MAX / 2});
  void kill();  // nothing is written any more; the page cache keeps everything
  void stop();

  daemon::store::Answer put(const std::string& id, uint32_t version, std::optional<std::string> content = {},
                            uint32_t condition = WARM_IF_ANY, uint64_t if_sequence = 0);
  daemon::store::Answer remove(const std::string& id);
  void settle();      // background work until none is left
  void checkpoint();  // a whole one

  std::optional<Seen> get(const std::string& id);  // by index, line and record, all checks on
  static std::vector<float> embedding_of(const std::string& id, uint32_t version, uint32_t dimensions);
  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }
  // Changes what the superblocks say, with right checksums.
  void edit_superblocks(const std::function<void(layout::Superblock&)>& edit);
  void pretend_reboot();  // the witness of the last life fits no more
  // From the next start on, what reaches the device is noted; then the power can be cut: what was not synced may be there or not.
  // Returns the sequence of the checkpoint that the device has.
  void watch_device();
  uint64_t cut_power(support::Chance& chance);

  Pins pins;
  bool device_at_once = false;  // whatever is in flight is over at the same time
  uint64_t device_asked_after_failure = 0;  // operations that were handed in although the store knew
  bool device_fails = false;  // from now on every operation of the device ends with EIO
  std::unique_ptr<daemon::store::Store> store;

 private:
  std::string directory_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<daemon::io::Io> io_;
};

}  // namespace warmtier::tests
