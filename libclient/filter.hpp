// Which records a caller wants: a warm_filter that was checked, with its own copy of the prefix.
#pragma once

#include <cstddef>
#include <string>

#include "base/error.hpp"
#include "libclient/record.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

class Filter {
 public:
  // NULL: every record. WARM_E_INVALID with the field that is wrong.
  static base::Result<Filter> make(const warm_filter* wanted);

  // Every record passes.
  [[nodiscard]] bool everything() const noexcept { return everything_; }
  // A record passes when both say yes. The first one needs the line only: who scans lines asks it before a segment is touched.
  [[nodiscard]] bool passes_line(const Line& line) const noexcept { return everything_ || judge_line(line); }
  [[nodiscard]] bool passes_record(const Record& record) const noexcept { return !needs_record_ || judge_record(record); }
  [[nodiscard]] bool passes(const Record& record) const noexcept { return passes_line(record.line) && passes_record(record); }
  // passes_record may say no.
  [[nodiscard]] bool needs_record() const noexcept { return needs_record_; }

 private:
  [[nodiscard]] bool judge_line(const Line& line) const noexcept;
  [[nodiscard]] bool judge_record(const Record& record) const noexcept;

  warm_filter filter_ = WARM_FILTER_INIT;  // without its pointer
  std::string prefix_;
  bool everything_ = true;
  bool needs_record_ = false;
};

}  // namespace warmtier::libclient
