// Who holds how many views: counts the pins of one session after the other, a bounded number at a step, so that the intake thread
// stays there for everybody else, and the store thread does nothing for it.
//
// Thread law: the intake thread. A session's memory is hostile: what it says is clamped, and a pin that names no slot holds
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "daemon/session/channel.hpp"
#include "layout/control.hpp"

namespace warmtier::daemon::session {

constexpr uint32_t kCensusCellsPerStep = 16384;
constexpr uint32_t kCensusViewsPerStep = 1024;  // each is a look at a line, far from the last one

class Census {
 public:
  // Row and content of what a slot holds; nothing for a slot that there is not. Any thread.
  using ViewBytes = std::function<uint64_t(uint32_t slot)>;

  struct Subject {
    std::shared_ptr<const Session> session;  // attached once; its memory stays mapped as long as it is held here
    uint32_t uid = 0;
    layout::SessionPresence presence{};
  };

  explicit Census(std::vector<Subject> subjects);
  // A bounded step. True when all is counted.
  bool step(const ViewBytes& view_bytes);
  // By session number; of all users, or of one.
  [[nodiscard]] std::vector<layout::SessionReport> reports(bool all, uint32_t uid) const;

 private:
  std::vector<Subject> subjects_;
  std::vector<layout::SessionReport> reports_;
  size_t next_ = 0;  // subject
  uint32_t cell_ = 0;  // of it
};

}  // namespace warmtier::daemon::session
