// The backends that open_io chooses from.
#pragma once

#include <memory>
#include <string>

#include "base/error.hpp"
#include "daemon/io/io.hpp"

namespace warmtier::daemon::io {

// WARM_E_UNSUPPORTED when this process may not use io_uring or the kernel's lacks an operation; os_error says which.
base::Result<std::unique_ptr<Io>> open_uring();
// `why`: for describe(), may be empty.
base::Result<std::unique_ptr<Io>> open_threads(std::string why);

}  // namespace warmtier::daemon::io
