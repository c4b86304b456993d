#include "tests/support/failpoints.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <tuple>

namespace warmtier::tests::support {

Failpoints::Failpoints(const std::string& path) : path_(path) {
  const base::Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (!fd || ::ftruncate(fd.get(), sizeof(base::FailpointControl)) != 0) give_up("no failpoint control file at " + path);
  void* map = ::mmap(nullptr, sizeof(base::FailpointControl), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (map == MAP_FAILED) give_up("the failpoint control file cannot be mapped");
  control_ = static_cast<base::FailpointControl*>(map);
  ::setenv("WARMTIER_FAILPOINTS", path.c_str(), 1);

  // From the last rule down: tests count theirs from the first one up.
  unsigned rule = base::kFailpointRules;
  std::istringstream omitted(omits_rules() ? std::getenv("WARMTIER_OMIT") : "");
  for (std::string name; std::getline(omitted, name, ',');) arm(--rule, name, FailpointAction::omit);
}

bool omits_rules() {
  const char* names = std::getenv("WARMTIER_OMIT");
  return names != nullptr && *names != '\0';
}

Failpoints::~Failpoints() {
  for (unsigned rule = 0; rule < base::kFailpointRules; ++rule) disarm_and_release(rule);
  ::munmap(control_, sizeof(base::FailpointControl));
}

void Failpoints::arm(unsigned rule, std::string_view name, FailpointAction action, uint32_t skip, pid_t owner) {
  base::FailpointRule& at = control_->rules[rule];
  if (name.size() >= sizeof at.name) give_up("the failpoint's name is too long: " + std::string(name));
  disarm(rule);
  std::memset(at.name, 0, sizeof at.name);
  std::memcpy(at.name, name.data(), name.size());
  at.owner.store(static_cast<uint32_t>(owner));
  at.skip.store(skip);
  at.hits.store(0);
  at.arrived.store(0);
  at.released.store(0);
  at.action.store(static_cast<uint32_t>(action), std::memory_order_release);
}

void Failpoints::disarm(unsigned rule) { control_->rules[rule].action.store(0, std::memory_order_release); }

void Failpoints::disarm_all() {
  for (unsigned rule = 0; rule < base::kFailpointRules; ++rule) disarm(rule);
}

uint32_t Failpoints::hits(unsigned rule) const noexcept { return control_->rules[rule].hits.load(std::memory_order_acquire); }
uint32_t Failpoints::arrived(unsigned rule) const noexcept {
  return control_->rules[rule].arrived.load(std::memory_order_acquire);
}

bool Failpoints::wait_arrived(unsigned rule, uint32_t count, const base::Deadline& deadline) const noexcept {
  const std::atomic<uint32_t>& word = control_->rules[rule].arrived;
  for (;;) {
    const uint32_t seen = word.load(std::memory_order_acquire);
    if (seen >= count) return true;
    if (deadline.passed()) return false;
    futex_wait(word, seen, deadline);
  }
}

void Failpoints::await_arrived(unsigned rule, uint32_t count) const {
  if (!wait_arrived(rule, count, base::Deadline::after_ns(kPatienceNs))) {
    give_up("nobody came to failpoint " + std::string(control_->rules[rule].name));
  }
}

int Failpoints::await_any(std::vector<uint32_t>& seen, const Process& process) const {
  const base::Deadline deadline = base::Deadline::after_ns(kPatienceNs);
  for (;;) {
    std::vector<futex_waitv> words;
    for (unsigned rule = 0; rule < seen.size(); ++rule) {
      const std::atomic<uint32_t>& word = control_->rules[rule].arrived;
      if (word.load(std::memory_order_acquire) != seen[rule]) {
        ++seen[rule];
        return static_cast<int>(rule);
      }
      words.push_back({.val = seen[rule], .uaddr = reinterpret_cast<uintptr_t>(&word), .flags = FUTEX_32, .__reserved = 0});
    }
    pollfd ended{.fd = process.pidfd(), .events = POLLIN, .revents = 0};
    if (::poll(&ended, 1, 0) > 0) return -1;
    if (deadline.passed()) give_up("nobody came to any failpoint");
    // In slices: a process that ends wakes no futex.
    timespec until{};
    ::clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 20'000'000;
    if (until.tv_nsec >= 1'000'000'000) {
      until.tv_nsec -= 1'000'000'000;
      ++until.tv_sec;
    }
    ::syscall(SYS_futex_waitv, words.data(), words.size(), 0, &until, CLOCK_MONOTONIC);
  }
}

void Failpoints::release(unsigned rule, uint32_t count) noexcept {
  control_->rules[rule].released.fetch_add(count, std::memory_order_acq_rel);
  futex_wake_all(control_->rules[rule].released);
}

void Failpoints::disarm_and_release(unsigned rule) noexcept {
  disarm(rule);
  // As many as have arrived and, because one may have passed the disarmed check just before, many more; half of the number
  // space stays, for "released" is compared with "arrived" as a distance.
  release(rule, uint32_t{1} << 30);
}

std::string source_root() {
  const char* const named = std::getenv("WARMTIER_SOURCE_ROOT");
  return named != nullptr ? named : WARMTIER_SOURCE_ROOT;
}

std::vector<FailpointPlace> failpoint_places(const std::string& folder, std::string_view prefix) {
  std::vector<FailpointPlace> places;
  const std::regex use("WARM_FAILPOINT\\(\"([^\"]+)\"\\)");
  const std::filesystem::path root(source_root());
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
    if (entry.path().extension() != ".cpp" && entry.path().extension() != ".hpp") continue;
    std::ifstream file(entry.path());
    std::string text;
    for (uint32_t line = 1; std::getline(file, text); ++line) {
      for (std::sregex_iterator at(text.begin(), text.end(), use), end; at != end; ++at) {
        const std::string name = (*at)[1];
        if (name.starts_with(prefix)) places.push_back({name, entry.path().lexically_relative(root).string(), line});
      }
    }
  }
  std::ranges::sort(places, {}, [](const FailpointPlace& place) { return std::tie(place.name, place.file, place.line); });
  const auto again = std::ranges::unique(places, {}, &FailpointPlace::name);
  places.erase(again.begin(), again.end());
  return places;
}

std::vector<std::string> failpoint_names(const std::string& folder, std::string_view prefix) {
  std::vector<std::string> names;
  for (const FailpointPlace& place : failpoint_places(folder, prefix)) names.push_back(place.name);
  return names;
}

}  // namespace warmtier::tests::support
