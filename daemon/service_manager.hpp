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

  bool keep(const std::string& name, int fd) noexcept override;
  void let_go(const std::string& name) noexcept override;

  // How often it wants to hear that the daemon is well; UINT64_MAX: not at all. Half of what makes it lose patience.
  [[nodiscard]] uint64_t watchdog_interval_ns() const noexcept { return watchdog_interval_ns_; }
  void say_well() noexcept;
  // What it must hear of the daemon's life; waits for a moment when it is busy, and not for ever.
  void tell(const std::string& text) noexcept;

 private:
  // Never waits: what a service manager that does not listen would miss is missed.
  bool say(const std::string& text, int fd) noexcept;
  base::Fd socket_;  // none: nobody listens
  uint64_t watchdog_interval_ns_ = UINT64_MAX;
};

}  // namespace warmtier::daemon
