// Commands on one record or on the daemon, once their command line is understood.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/ctl_client.hpp"

namespace warmtier::tools {

struct CtlInit {
  std::string directory;
  uint32_t dimensions = 768;
  uint64_t capacity = uint64_t{1} << 24;
};

struct CtlStatus {};

struct CtlPut {
  std::string id;
  std::string embedding_path;
  std::optional<std::string> content;
  std::string content_path;  // empty: none
  float confidence = 1.0f;
  float activation = 0.0f;
  float decay_rate = 0.0f;
  uint32_t recall_count = 0;
  std::optional<uint64_t> created_ns;
  std::optional<uint64_t> last_access_ns;
  bool if_absent = false;
  std::optional<uint64_t> if_sequence;
};

struct CtlGet {
  std::string id;
  std::string content_path;
  std::string embedding_path;
};

struct CtlRemove {
  std::string id;
  std::optional<uint64_t> if_sequence;
};

// Scalars of a record; those without a value stay as they are.
struct CtlUpdate {
  std::string id;
  std::optional<float> confidence;
  std::optional<float> activation;
  std::optional<float> decay_rate;
  std::optional<uint32_t> recall_count;
  std::optional<uint64_t> last_access_ns;
  std::optional<uint64_t> if_sequence;
};

struct CtlTouch {
  std::vector<std::string> ids;
};

Exit ctl_init(const CtlOptions& options, const CtlInit& init);
Exit ctl_status(const CtlOptions& options, const CtlStatus& status);
Exit ctl_put(const CtlOptions& options, const CtlPut& put);
Exit ctl_get(const CtlOptions& options, const CtlGet& get);
Exit ctl_remove(const CtlOptions& options, const CtlRemove& remove);
Exit ctl_update(const CtlOptions& options, const CtlUpdate& update);
Exit ctl_touch(const CtlOptions& options, const CtlTouch& touch);

}  // namespace warmtier::tools
