// The service manager (systemd, or what speaks its protocol): sockets and memory that it hands over at the start, descriptors
// that it keeps, and the watchdog. Without one nothing is done.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "daemon/session/kept.hpp"

namespace warmtier::daemon {

class ServiceManager final : public session::Keeper {
 public:
  ServiceManager();
  // Once, at the start.
  struct Given {
    std::vector<base::Fd> sockets;
    session::Kept kept;
  };
  static base::Result<Given> take_given();

  void keep(const std::string& name, int fd) noexcept override;
  void let_go(const std::string& name) noexcept override;

  // How often it wants to hear that the daemon is well; UINT64_MAX: not at all. Half of what makes it lose patience.
  [[nodiscard]] uint64_t watchdog_interval_ns() const noexcept { return watchdog_interval_ns_; }
  static void say_well() noexcept;

 private:
  bool listens_ = false;
  uint64_t watchdog_interval_ns_ = UINT64_MAX;
};

}  // namespace warmtier::daemon
