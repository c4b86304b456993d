#include "daemon/session/census.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace warmtier::daemon::session {

Census::Census(std::vector<Subject> subjects) : subjects_(std::move(subjects)) {
  std::ranges::sort(subjects_, {}, [](const Subject& subject) { return subject.session->number; });
  for (const Subject& subject : subjects_) {
    const Session& session = *subject.session;
    layout::SessionReport report{};
    report.session = session.number;
    report.channel = session.channel->number();
    report.since_ns = session.since_ns;
    report.pid = session.process.pid;
    report.uid = subject.uid;
    report.presence = static_cast<uint32_t>(subject.presence);
    report.views_max = session.views_max;
    if (subject.presence != layout::SessionPresence::unknown) {
      report.gets = layout::load_relaxed(session.shared()->counters.gets);
      report.misses = layout::load_relaxed(session.shared()->counters.misses);
    }
    reports_.push_back(report);
  }
}

bool Census::step(const ViewBytes& view_bytes) {
  uint32_t cells = kCensusCellsPerStep;
  uint32_t views = kCensusViewsPerStep;
  while (next_ < subjects_.size()) {
    if (cells == 0) return false;
    const Subject& subject = subjects_[next_];
    layout::SessionReport& report = reports_[next_];
    const uint32_t high = subject.presence == layout::SessionPresence::unknown ? 0 : pins_high(*subject.session);
    for (; cell_ < high; ++cell_, --cells) {
      if (cells == 0 || views == 0) return false;
      const uint32_t pin = layout::load_acquire(subject.session->shared()->pins[cell_]);
      if (pin == 0) continue;
      ++report.views;
      report.view_bytes += view_bytes(pin - 1);
      --views;
    }
    ++next_;
    cell_ = 0;
    if (cells > 0) --cells;
  }
  return true;
}

std::vector<layout::SessionReport> Census::reports(bool all, uint32_t uid) const {
  std::vector<layout::SessionReport> wanted;
  std::ranges::copy_if(reports_, std::back_inserter(wanted), [&](const auto& report) { return all || report.uid == uid; });
  return wanted;
}

}  // namespace warmtier::daemon::session
