// Commands that walk over records: those that the filter lets through, each once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tools/ctl_client.hpp"
#include "tools/ctl_filter.hpp"

namespace warmtier::tools {

struct CtlList {
  CtlFilter filter;
  uint64_t limit = UINT64_MAX;
};
struct CtlCount {
  CtlFilter filter;
};
struct CtlExport {
  CtlFilter filter;
  std::string path = "-";
  std::string embeddings_path;  // a .npy; empty: the lines hold them
  bool verify = false;          // every checksum
};

Exit ctl_list(const CtlOptions& options, const CtlList& list);
Exit ctl_count(const CtlOptions& options, const CtlCount& count);
Exit ctl_export(const CtlOptions& options, const CtlExport& how);

}  // namespace warmtier::tools
