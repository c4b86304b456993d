// Leaves a rule out in this process, for tests that run a room in their own threads.
#pragma once

#include <cstdio>
#include <memory>

#include "base/failpoint.hpp"
#include "tests/support/failpoints.hpp"

namespace warmtier::tests::support {

class Omit {
 public:
  explicit Omit(const char* rule) : control_(std::make_unique<base::FailpointControl>()) {
    std::snprintf(control_->rules[0].name, sizeof control_->rules[0].name, "%s", rule);
    control_->rules[0].action.store(static_cast<uint32_t>(base::FailpointAction::omit), std::memory_order_release);
    base::failpoint_attach(control_.get());
  }
  ~Omit() { base::failpoint_attach(nullptr); }
  Omit(const Omit&) = delete;
  Omit& operator=(const Omit&) = delete;

 private:
  std::unique_ptr<base::FailpointControl> control_;
};

}  // namespace warmtier::tests::support
