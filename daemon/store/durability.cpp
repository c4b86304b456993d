#include "daemon/store/durability.hpp"

#include <cstdio>

#include "base/clock.hpp"

namespace warmtier::daemon::store {

Durability::Durability(io::Io& io, Tier& tier, SegmentTable& segments, int content_directory,
                       const layout::Superblock& superblock, const Witness& witness, uint64_t interval_ns)
    : tier_(tier),
      checkpoint_(io, tier, segments, content_directory),
      superblock_(superblock),
      witness_(witness),
      interval_ns_(interval_ns) {
  for (uint64_t chunk = 0; chunk < tier_.chunks(); ++chunk)
    checkpoint_.mark_dirty(static_cast<uint32_t>(chunk * layout::kSlotsPerChunk));
}

void Durability::begin(uint64_t last_sequence, bool clean) {
  requested_ = false;
  touched_ = false;
  dirty_since_ns_ = 0;
  layout::Superblock next = superblock_;
  const layout::NumbersLine& numbers = tier_.control().numbers;
  next.epoch = superblock_.epoch + 1;
  next.checkpoint_sequence = last_sequence;
  next.chunks_allocated = tier_.chunks();
  next.next_segment = numbers.next_segment;
  next.next_session = numbers.next_session;
  next.next_channel = numbers.next_channel;
  next.clean_stop = clean ? 1 : 0;
  witness_.write_to(next);
  checkpoint_.begin(next);
}

void Durability::ended() {
  superblock_ = checkpoint_.written();
  if (status_ == nullptr) return;
  layout::store_release(status_->sequence_durable, durable());
  layout::count(status_->checkpoints);
}

bool Durability::step_running() {
  const bool done = checkpoint_.step();
  if (done) ended();
  if (checkpoint_.error() && !io_error_) {
    io_error_ = checkpoint_.error();
    layout::store_release(status_->durability_stopped, 1);
    std::fprintf(stderr, "<2>store: %s; durability stops here, reads go on; the next start reads the device\n",
                 io_error_->text.c_str());
  }
  return done;
}

base::Status Durability::finish() {
  if (auto s = checkpoint_.finish(); !s) return s;
  ended();
  return {};
}

bool Durability::begin_if_due(uint64_t last_sequence, bool more, bool hurry) {
  if (io_error_ || checkpoint_.running()) return true;
  const bool dirty = last_sequence > durable() || touched_ || more;
  if (requested_ || (dirty && hurry)) {
    begin(last_sequence, false);
    return true;
  }
  if (!dirty) return false;
  const uint64_t now = base::monotonic_ns();
  if (dirty_since_ns_ == 0) dirty_since_ns_ = now;
  if (now - dirty_since_ns_ >= interval_ns_) begin(last_sequence, false);
  return true;
}

uint64_t Durability::due_at_ns() const {
  return dirty_since_ns_ != 0 && !checkpoint_.running() && !io_error_ ? dirty_since_ns_ + interval_ns_ : UINT64_MAX;
}

}  // namespace warmtier::daemon::store
