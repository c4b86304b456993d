// Many records at once: JSON lines, with the embeddings in them or beside them in a .npy.
#pragma once

#include <string>

#include "tools/ctl_client.hpp"

namespace warmtier::tools {

struct CtlImport {
  std::string path = "-";
  std::string embeddings_path;  // a .npy with a row for each line; empty: the lines hold them
  bool strict = false;          // stop at the first bad line
  bool if_absent = false;
  bool ignore_unknown = false;
};

Exit ctl_import(const CtlOptions& options, const CtlImport& import);

}  // namespace warmtier::tools
