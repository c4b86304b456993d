// A client that speaks to the control socket by hand, well or badly. Nothing here judges: a hostile process does not mind.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "layout/control.hpp"

namespace warmtier::tests::hostile {

// Not connected when the daemon refuses or is gone.
base::Fd dial(const std::string& path);
layout::Hello hello();
// Sends bytes with copies of these descriptors; false when they were not taken.
bool send_raw(int socket, std::span<const std::byte> bytes, const std::vector<int>& descriptors = {});
template <typename Message>
bool send_message(int socket, const Message& message, const std::vector<int>& descriptors = {}) {
  return send_raw(socket, std::as_bytes(std::span(&message, 1)), descriptors);
}

// A session with everything that it was handed.
struct RawSession {
  base::Fd socket;
  layout::Welcome welcome{};
  std::vector<base::Fd> descriptors;  // as the welcome has them
  base::WriteMapping lanes;
  base::WriteMapping region;

  [[nodiscard]] layout::SessionRegion& shared() const { return *reinterpret_cast<layout::SessionRegion*>(region.data()); }
};
std::optional<RawSession> attach_raw(const std::string& path, uint64_t pid_namespace = 0);

}  // namespace warmtier::tests::hostile
