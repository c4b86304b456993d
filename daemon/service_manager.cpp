#include "daemon/service_manager.hpp"

#include <systemd/sd-daemon.h>

#include <cstdlib>
#include <cstring>

#include "base/clock.hpp"

namespace warmtier::daemon {

ServiceManager::ServiceManager() : listens_(std::getenv("NOTIFY_SOCKET") != nullptr) {
  uint64_t patience_us = 0;
  if (::sd_watchdog_enabled(0, &patience_us) > 0) watchdog_interval_ns_ = patience_us * base::kNsPerUs / 2;
}

base::Result<ServiceManager::Given> ServiceManager::take_given() {
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  if (count < 0) return base::fail_errno(-count, "take over the descriptors of the service manager");
  Given given;
  for (int i = 0; i < count; ++i) {
    base::Fd fd(SD_LISTEN_FDS_START + i);
    if (std::strncmp(names[i], session::kKeptPrefix, std::strlen(session::kKeptPrefix)) == 0) {
      given.kept[names[i]] = std::move(fd);
    } else {
      given.sockets.push_back(std::move(fd));
    }
    std::free(names[i]);
  }
  std::free(static_cast<void*>(names));
  return given;
}

void ServiceManager::keep(const std::string& name, int fd) noexcept {
  if (!listens_ || fd < 0) return;
  const std::string text = "FDSTORE=1\nFDNAME=" + name;
  (void)::sd_pid_notify_with_fds(0, 0, text.c_str(), &fd, 1);
}

void ServiceManager::let_go(const std::string& name) noexcept {
  if (listens_) (void)::sd_notify(0, ("FDSTOREREMOVE=1\nFDNAME=" + name).c_str());
}

void ServiceManager::say_well() noexcept { (void)::sd_notify(0, "WATCHDOG=1"); }

}  // namespace warmtier::daemon
