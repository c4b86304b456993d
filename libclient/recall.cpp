#include "libclient/recall.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <unordered_set>
#include <utility>

#include "base/clock.hpp"
#include "base/failpoint.hpp"
#include "libclient/lookup.hpp"
#include "libclient/reader.hpp"
#include "libclient/view.hpp"

namespace warmtier::libclient {
namespace {

constexpr size_t kLinesAhead = 2 * layout::kPageBytes / sizeof(layout::SlotLine);

const float* floats_at(const std::byte* row) noexcept { return reinterpret_cast<const float*>(row); }

// The later of the two: what was met so far, and the death that ended this put. A damaged word is none.
uint64_t later_death(uint64_t met, uint64_t put, uint64_t dead) noexcept {
  const uint64_t sequence = layout::sequence_of(dead);
  return sequence > met && layout::dead_word_names(dead, layout::sequence_of(put)) ? sequence : met;
}

}  // namespace

// ---- Reading single records ---------------------------------------------------------------------------------------------------

// One thread inside, at one attachment of the pass's daemon.
class Scan::Reader final : public Ids {
 public:
  Reader(ClientState& state, Pass& pass) : state_(state), pass_(pass), me_(state.thread()) {
    state.enter(me_);
    attachment_ = state.attachment.load(std::memory_order_acquire);
    if (attachment_ != nullptr && attachment_->connection != pass.connection) attachment_ = nullptr;
  }
  ~Reader() { ClientState::leave(me_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // False: the client is attached to another daemon than the pass.
  [[nodiscard]] bool good() const noexcept { return attachment_ != nullptr; }

  [[nodiscard]] const layout::SlotLine& line(uint32_t slot) const noexcept {
    return *reinterpret_cast<const layout::SlotLine*>(pass_.tier + pass_.geometry.line_offset(slot));
  }
  [[nodiscard]] const float* row(uint32_t slot) const noexcept { return floats_at(pass_.tier + pass_.geometry.row_offset(slot)); }
  [[nodiscard]] bool holds(uint32_t slot, uint64_t put) const noexcept {
    const layout::SlotLine& at = line(slot);
    if (layout::load_acquire(at.put) != put) return false;
    const uint64_t dead = layout::load_acquire(at.dead);
    if (layout::live(put, dead)) return true;
    met(put, dead);
    return false;
  }
  // A death: what took the place of the dead must stand in the feed.
  void met(uint64_t put, uint64_t dead) const noexcept {
    pass_.meet(later_death(pass_.latest_death.load(std::memory_order_relaxed), put, dead));
  }
  // The record that `put` made is dead, and the feed, as far as it was followed, says what came of it.
  [[nodiscard]] bool died_before(uint32_t slot, uint64_t put, uint64_t followed) const noexcept {
    const layout::SlotLine& at = line(slot);
    if (layout::load_acquire(at.put) != put) return false;  // used again: nobody can tell when it died
    const uint64_t dead = layout::load_acquire(at.dead);
    if (layout::live(put, dead)) return false;
    return layout::sequence_of(dead) <= followed || !WARM_RULE("client.recall_follows_deaths");
  }

  // The record that `put` made, if its slot has not been used again: a dead one keeps its id until then.
  Lookup record(uint32_t slot, uint64_t put, Record& ret_record) const noexcept {
    InPlace source;
    const layout::SlotLine& at = line(slot);
    ret_record.slot = slot;
    read_line(source, at, put, ret_record.line);
    const Place place = read_record<Want::facts>(source, state_, *attachment_, ret_record);
    layout::fence_acquire();
    if (layout::load_acquire(at.put) != put) return Lookup::absent;
    switch (place) {
      case Place::good: return Lookup::found;
      case Place::no_memory: return Lookup::no_memory;
      case Place::missing_segment: return holds(slot, put) ? Lookup::segment : Lookup::absent;
      case Place::other_store: return Lookup::reattach;
      default: break;
    }
    // The line's words were loaded one by one: a record that moved or died meanwhile is no damage.
    if (!holds(slot, put) || layout::load_acquire(at.locator) != ret_record.line.locator) return Lookup::absent;
    return Lookup::corrupt;
  }
  bool read(uint32_t slot, uint64_t put, std::string& ret_id) override {
    Record found;
    if (record(slot, put, found) != Lookup::found) return false;
    ret_id.assign(reinterpret_cast<const char*>(found.id), found.header.id_bytes);
    return true;
  }
  void prefetch_header(uint64_t locator) const noexcept {
    const layout::Locator at = layout::locator_of(locator);
    const SegmentTable::Entry* segment = state_.segments.load(std::memory_order_acquire)->find(at.segment);
    if (segment != nullptr && segment->base != nullptr && at.offset_bytes < segment->bytes) {
      layout::prefetch(segment->base + at.offset_bytes);
    }
  }

 private:
  ClientState& state_;
  Pass& pass_;
  ThreadRecord& me_;
  const Attachment* attachment_;
};

// ---- The scan of columns ------------------------------------------------------------------------------------------------------

// What one thread has while it works: everything is its own, and handed over when no chunk is left.
class Scan::Worker {
 public:
  Worker(const Scan& scan, Pass& pass)
      : scan_(scan), pass_(pass), bits_per_row_((scan.queries_.size() + 63) / 64), rows_(layout::kSlotsPerChunk) {
    const size_t queries = scan.queries_.size();
    for (const Query& query : scan.queries_) {
      rankings_.emplace_back(scan.capacity_of(query));
      bars_.push_back(query.bar(query.threshold()));
    }
    seen_changes_.resize(queries);
    for (const size_t q : scan.by_product_) products_.push_back(scan.queries_[q].ranked_by());
    for (const size_t q : scan.by_distance_) distances_.push_back(scan.queries_[q].ranked_by());
    pairs_.resize(kRowsAtOnce * std::max(products_.size(), distances_.size()));
    if (scan.filtered_) bits_.resize(layout::kSlotsPerChunk * bits_per_row_);
    if (scan.needs_records_) lines_.resize(layout::kSlotsPerChunk);
  }

  void scan(Reader& reader, uint64_t chunk) {
    find_live(reader, chunk);
    if (scan_.filtered_) filter(reader);
    matched_ += count_;
    const size_t floats = pass_.geometry.row_bytes / sizeof(float);
    for (size_t first = 0; first < count_; first += kRowsAtOnce) {
      const size_t n = std::min(kRowsAtOnce, count_ - first);
      vector::Batch batch{.rows = pointers_ + first, .row_count = n, .following = count_ - first - n, .floats = floats};
      const auto rank = [&](const std::vector<size_t>& queries) {
        for (size_t i = 0; i < queries.size(); ++i) consider(reader, queries[i], first, n, pairs_.data() + i * n);
      };
      if (!products_.empty()) {
        batch.queries = products_.data();
        batch.query_count = products_.size();
        float squares[kRowsAtOnce];
        vector::kernels().products(batch, pairs_.data(), squares);
        lengths_.set(squares, n);
        rank(scan_.by_product_);
      }
      if (!distances_.empty()) {
        batch.queries = distances_.data();
        batch.query_count = distances_.size();
        vector::kernels().distances(batch, pairs_.data());
        rank(scan_.by_distance_);
      }
    }
  }

  // Under the pass's lock.
  void hand_over(Reader& reader) {
    for (size_t q = 0; q < rankings_.size(); ++q) pass_.rankings[q].merge(std::move(rankings_[q]), reader);
    pass_.meet(latest_death_);
    pass_.scanned += scanned_;
    pass_.matched += matched_;
    pass_.damaged += damaged_;
    pass_.named.insert(pass_.named.end(), postponed_.begin(), postponed_.end());
  }

 private:
  struct Row {
    uint32_t slot;
    uint64_t put;
  };

  [[nodiscard]] uint64_t* bits_of(size_t row) noexcept { return bits_.data() + row * bits_per_row_; }

  // Lines first: rows of what does not live are not touched.
  void find_live(Reader& reader, uint64_t chunk) {
    const auto first = static_cast<uint32_t>(chunk * layout::kSlotsPerChunk);
    const uint32_t slots = static_cast<uint32_t>(std::min<uint64_t>(layout::kSlotsPerChunk, pass_.geometry.capacity - first));
    const layout::SlotLine* lines = &reader.line(first);
    const std::byte* rows = pass_.tier + pass_.geometry.row_offset(first);
    count_ = 0;
    for (uint32_t i = 0; i < slots; ++i) {
      if (i % (layout::kPageBytes / sizeof(layout::SlotLine)) == 0) {
        layout::prefetch(lines + i + kLinesAhead);
        layout::prefetch(lines + i + kLinesAhead + 1);
      }
      WARM_STEP("client.recall_next_line");
      const uint64_t put = layout::load_acquire(lines[i].put);
      const uint64_t dead = layout::load_acquire(lines[i].dead);
      if (!layout::live(put, dead)) {
        if (put != 0) latest_death_ = later_death(latest_death_, put, dead);
        continue;
      }
      ++scanned_;
      const size_t at = count_;
      rows_[at] = {.slot = first + i, .put = put};
      pointers_[at] = floats_at(rows + uint64_t{i} * pass_.geometry.row_bytes);
      if (scan_.filtered_ && !passes_line(lines[i], put, at)) continue;
      ++count_;
    }
  }

  bool passes_line(const layout::SlotLine& shared, uint64_t put, size_t at) {
    Line line;
    InPlace source;
    read_line(source, shared, put, line);
    uint64_t* bits = bits_of(at);
    std::fill_n(bits, bits_per_row_, 0);
    bool any = false;
    for (size_t q = 0; q < scan_.queries_.size(); ++q) {
      if (!scan_.queries_[q].filter().passes_line(line)) continue;
      bits[q / 64] |= uint64_t{1} << q % 64;
      any = true;
    }
    if (any && scan_.needs_records_) lines_[at] = line;
    return any;
  }

  // What only the record says. Those that fall out are left behind, the rest moves up.
  void filter(Reader& reader) {
    if (!scan_.needs_records_) return;
    for (size_t i = 0; i < count_; ++i) reader.prefetch_header(lines_[i].locator);
    size_t kept = 0;
    for (size_t i = 0; i < count_; ++i) {
      uint64_t* bits = bits_of(i);
      Record record;
      std::optional<Lookup> verdict;  // read once, and only if a query asks
      for (size_t q = 0; q < scan_.queries_.size(); ++q) {
        const Filter& wanted = scan_.queries_[q].filter();
        if ((bits[q / 64] >> q % 64 & 1) == 0 || !wanted.needs_record()) continue;
        if (!verdict) verdict = reader.record(rows_[i].slot, rows_[i].put, record);
        if (*verdict != Lookup::found || !wanted.passes_record(record)) bits[q / 64] &= ~(uint64_t{1} << q % 64);
      }
      if (verdict == Lookup::corrupt) ++damaged_;
      // Its segment is not known here yet: nothing can be asked for inside, so it waits for the end.
      if (verdict == Lookup::segment || verdict == Lookup::no_memory) postponed_.push_back(rows_[i].slot);
      if (std::all_of(bits, bits + bits_per_row_, [](uint64_t word) { return word == 0; })) continue;
      if (kept != i) {
        rows_[kept] = rows_[i];
        pointers_[kept] = pointers_[i];
        std::copy_n(bits, bits_per_row_, bits_of(kept));
      }
      ++kept;
    }
    count_ = kept;
  }

  // Rows first .. first + n of the chunk, for one query.
  void consider(Reader& reader, size_t q, size_t first, size_t n, const float* pairs) {
    float bounds[kRowsAtOnce];
    scan_.queries_[q].bounds(pairs, lengths_, n, bounds);
    const float bar = bars_[q];
    // Counted and not asked one by one: nearly always it is all of them.
    if (static_cast<size_t>(std::count_if(bounds, bounds + n, [bar](float bound) { return bound < bar; })) == n) return;
    for (size_t i = 0; i < n; ++i) {
      if (bounds[i] < bars_[q]) continue;
      if (scan_.filtered_ && (bits_of(first + i)[q / 64] >> q % 64 & 1) == 0) continue;
      score(reader, q, rows_[first + i], pointers_[first + i]);
    }
  }

  void score(Reader& reader, size_t q, const Row& at, const float* row) {
    const Query& query = scan_.queries_[q];
    Ranking& ranking = rankings_[q];
    const double score = query.score(row, layout::load_relaxed(reader.line(at.slot).created_ns));
    WARM_STEP("client.recall_row_scored");
    layout::fence_acquire();
    // Only bytes that nobody wrote meanwhile count. Whoever took this record's place is named by the feed.
    if (!reader.holds(at.slot, at.put)) return;
    if (std::isnan(score)) {
      ++damaged_;
      return;
    }
    if (score < query.threshold()) return;
    if (ranking.full() && seen_changes_[q] != pass_.changes.load(std::memory_order_relaxed)) {
      // The dead must not push out the living.
      seen_changes_[q] = pass_.changes.load(std::memory_order_relaxed);
      ranking.drop([&](const Candidate& c) { return !reader.holds(c.slot, c.put); }, reader);
    }
    ranking.offer({.score = score, .put = at.put, .slot = at.slot, .id_known = false, .id = {}}, reader);
    bars_[q] = query.bar(std::max(query.threshold(), ranking.entry()));
  }

  const Scan& scan_;
  Pass& pass_;
  const size_t bits_per_row_;
  std::vector<Row> rows_;  // of the chunk in hand, `count_` of them
  const float* pointers_[layout::kSlotsPerChunk];
  size_t count_ = 0;
  std::vector<uint64_t> bits_;  // by row: which queries want it
  std::vector<Line> lines_;
  std::vector<const float*> products_;
  std::vector<const float*> distances_;
  std::vector<float> pairs_;
  Lengths lengths_;  // of the rows in hand
  std::vector<Ranking> rankings_;  // by query, as the next two
  std::vector<float> bars_;
  std::vector<uint64_t> seen_changes_;
  std::vector<uint32_t> postponed_;
  uint64_t scanned_ = 0;
  uint64_t matched_ = 0;
  uint64_t damaged_ = 0;
  uint64_t latest_death_ = 0;
};

Scan::Scan(ClientState& state, std::vector<Query> queries) : state_(state), queries_(std::move(queries)) {
  for (size_t q = 0; q < queries_.size(); ++q) {
    (queries_[q].by_distance() ? by_distance_ : by_product_).push_back(q);
    filtered_ = filtered_ || !queries_[q].filter().everything();
    needs_records_ = needs_records_ || queries_[q].filter().needs_record();
  }
  state_.open_scans.fetch_add(1, std::memory_order_relaxed);
}

Scan::~Scan() { state_.open_scans.fetch_sub(1, std::memory_order_relaxed); }

base::Result<std::unique_ptr<Scan>> Scan::open(ClientState& state, const warm_query* wanted, size_t count) {
  std::vector<Query> queries;
  const uint64_t now_ns = base::wall_ns();
  for (size_t i = 0; i < count; ++i) {
    auto query = Query::make(wanted[i], now_ns);
    if (!query) return base::pass(std::move(query));
    queries.push_back(std::move(*query));
  }
  std::unique_ptr<Scan> scan(new Scan(state, std::move(queries)));
  Patience patience(state.timeout_ns);
  state.notice_stop(state.thread());
  if (auto begun = scan->begin(patience); !begun) return base::pass(std::move(begun));
  return scan;
}

size_t Scan::capacity_of(const Query& query) const noexcept {
  const size_t limit = query.limit();
  return limit + widened_ * (layout::kRecallSpare + limit / 8);
}

base::Status Scan::begin(Patience& patience) {
  for (;;) {
    ThreadRecord& me = state_.thread();
    state_.enter(me);
    const Attachment* a = state_.attachment.load(std::memory_order_acquire);
    if (a != nullptr) {
      auto pass = std::make_unique<Pass>();
      pass->connection = a->connection;
      pass->tier = a->tier;
      pass->geometry = a->geometry;
      ClientState::leave(me);
      for (const Query& query : queries_) {
        if (query.dimensions() != pass->geometry.dimensions) {
          return base::fail(WARM_E_INVALID, "the query has %u dimensions, the store has %u", query.dimensions(),
                            pass->geometry.dimensions);
        }
        pass->rankings.emplace_back(capacity_of(query));
      }
      // First: what changes from here on is named above it. Slots that come later hold nothing else.
      pass->position = pass->connection->feed.head();
      const uint64_t slots = layout::load_acquire(pass->connection->status().slots_allocated);
      pass->chunks = (std::min(slots, pass->geometry.capacity) + layout::kSlotsPerChunk - 1) / layout::kSlotsPerChunk;
      pass_ = std::move(pass);
      WARM_STEP("client.recall_begun");
      return {};
    }
    ClientState::leave(me);
    if (auto ready = state_.refresh(ClientState::Need::reads, patience.deadline()); !ready) return ready;
  }
}

// Takes what the feed has, so that it never has to hold a whole scan. Under the pass's lock.
void Scan::follow(Pass& pass) {
  const FeedMap& feed = pass.connection->feed;
  const uint64_t head = feed.head();
  for (; pass.position != head; ++pass.position) {
    const auto change = feed.entry(pass.position);
    if (!change) {
      pass.overtaken = true;
      pass.position = head;
      break;
    }
    if (change->kind != layout::ChangeKind::remove) pass.named.push_back(change->slot);
  }
  pass.changes.store(pass.position, std::memory_order_relaxed);
  if (pass.named.size() < 2 * pass.named_sorted + layout::kSlotsPerChunk) return;
  std::sort(pass.named.begin(), pass.named.end());
  pass.named.erase(std::unique(pass.named.begin(), pass.named.end()), pass.named.end());
  pass.named_sorted = pass.named.size();
}

base::Status Scan::work() {
  if (state_.stamp != fork_stamp()) return base::fail(WARM_E_STALE, "the scan is from before a fork");
  Pass& pass = *pass_;
  // A chunk that was taken and not handed over is missed: then all of it is done again.
  struct Unless {
    Pass& pass;
    bool handed_over = false;
    ~Unless() {
      if (!handed_over) pass.over.store(true, std::memory_order_relaxed);
    }
  } lost{pass};
  std::optional<Worker> worker;
  while (!pass.over.load(std::memory_order_relaxed)) {
    const uint64_t chunk = pass.next_chunk.fetch_add(1, std::memory_order_relaxed);
    if (chunk >= pass.chunks) break;
    if (!worker) worker.emplace(*this, pass);
    Reader reader(state_, pass);
    if (!reader.good()) return {};
    worker->scan(reader, chunk);
    if (const std::unique_lock lock(pass.mutex, std::try_to_lock); lock) follow(pass);
  }
  if (worker) {
    Reader reader(state_, pass);
    if (!reader.good()) return {};
    const std::lock_guard lock(pass.mutex);
    worker->hand_over(reader);
  }
  lost.handed_over = true;
  return {};
}

// ---- The end ------------------------------------------------------------------------------------------------------------------

// A view that is released unless somebody takes it.
class Scan::HeldView {
 public:
  HeldView() = default;
  HeldView(ClientState& state, const warm_view& view) noexcept : state_(&state), view_(view) {}
  HeldView(HeldView&& other) noexcept : state_(std::exchange(other.state_, nullptr)), view_(other.view_) {}
  HeldView& operator=(HeldView&& other) noexcept {
    if (this == &other) return *this;
    let_go();
    state_ = std::exchange(other.state_, nullptr);
    view_ = other.view_;
    return *this;
  }
  ~HeldView() { let_go(); }
  explicit operator bool() const noexcept { return state_ != nullptr; }
  const warm_view* operator->() const noexcept { return &view_; }
  warm_view take() noexcept {
    state_ = nullptr;
    return view_;
  }

 private:
  void let_go() noexcept {
    if (state_ == nullptr) return;
    release(*state_, view_);
  }
  ClientState* state_ = nullptr;
  warm_view view_ = WARM_VIEW_INIT;
};

// A candidate on its way to becoming a hit.
struct Scan::Item {
  Candidate candidate;
  HeldView view;  // of what its id names, once that was looked up
};

struct Scan::Outcome {
  struct Hit {
    HeldView view;
    double score;
  };
  std::vector<Hit> hits;
  bool certain = true;  // nobody who was refused for want of room would stand among them
  bool again = false;  // a candidate's slot was used again: the feed says what became of it
};

// Slots that the feed named, each scored by what it holds now.
// `ret_more`: some of them died later than the feed was followed.
base::Status Scan::score_named(Patience& patience, const std::vector<uint32_t>& named, bool& ret_more) {
  Pass& pass = *pass_;
  const uint64_t followed = pass.connection->feed.sequence_below(pass.position);
  const uint64_t slots =
      std::min<uint64_t>(layout::load_acquire(pass.connection->status().slots_allocated), pass.geometry.capacity);
  Trouble trouble;
  for (size_t i = 0; i < named.size();) {
    Lookup verdict = Lookup::found;
    Record record;
    {
      Reader reader(state_, pass);
      if (!reader.good()) {
        pass.over.store(true, std::memory_order_relaxed);
        return {};
      }
      for (const size_t end = std::min(named.size(), i + layout::kSlotsPerChunk); i < end; ++i) {
        const uint32_t slot = named[i];
        if (slot >= slots) continue;
        const layout::SlotLine& line = reader.line(slot);
        const uint64_t put = layout::load_acquire(line.put);
        const uint64_t dead = layout::load_acquire(line.dead);
        if (!layout::live(put, dead)) {
          if (put != 0) reader.met(put, dead);
          ret_more = ret_more || layout::sequence_of(dead) > followed;
          continue;
        }
        // Another one than the feed named, which may be elsewhere by now: that stands further on.
        if (layout::sequence_of(put) > followed && WARM_RULE("client.recall_follows_tenants")) ret_more = true;
        ++rescored_;
        record = Record{};
        if (needs_records_) {
          verdict = reader.record(slot, put, record);
        } else if (filtered_) {
          InPlace source;
          read_line(source, line, put, record.line);
        }
        if (verdict == Lookup::corrupt) ++pass.damaged;
        if (verdict == Lookup::corrupt || verdict == Lookup::absent) {
          ret_more = ret_more || verdict == Lookup::absent;
          verdict = Lookup::found;
          continue;
        }
        if (verdict != Lookup::found) break;
        for (size_t q = 0; q < queries_.size(); ++q) {
          const Query& query = queries_[q];
          if (!query.filter().passes(record)) continue;
          const double score = query.score(reader.row(slot), layout::load_relaxed(line.created_ns));
          layout::fence_acquire();
          if (!reader.holds(slot, put)) {
            ret_more = true;
            break;
          }
          if (std::isnan(score) || score < query.threshold()) continue;
          pass.rankings[q].offer({.score = score, .put = put, .slot = slot, .id_known = false, .id = {}}, reader);
        }
      }
    }
    if (verdict == Lookup::found) continue;
    if (auto ready = overcome(state_, verdict, nullptr, 0, record, patience, trouble); !ready) return ready;
  }
  return {};
}

// Everything that changed since the scan began is in the rankings when it returns, unless another daemon has come (`ret_again`).
base::Status Scan::settle(Patience& patience, bool& ret_again) {
  Pass& pass = *pass_;
  for (uint32_t rounds = 0;;) {
    // After the scan: of what a later daemon did, whose deaths the scan may have met, this one's feed says nothing.
    if (WARM_RULE("client.recall_generation_after_scan")) {
      if (auto ready = state_.refresh(ClientState::Need::reads, patience.deadline()); !ready) return ready;
    }
    std::vector<uint32_t> named;
    {
      Reader reader(state_, pass);
      ret_again = !reader.good() || pass.over.load(std::memory_order_relaxed);
      if (ret_again) return {};
      const std::lock_guard lock(pass.mutex);
      follow(pass);
      WARM_STEP("client.recall_feed_followed");
      // A death that no feed has was stored by a recovery, whose generation is about to come.
      ret_again = pass.latest_death.load(std::memory_order_relaxed) > pass.connection->feed.sequence_below(pass.position) &&
                  WARM_RULE("client.recall_deaths_are_in_feed");
      if (ret_again) return {};
      named = std::exchange(pass.named, {});
      pass.named_sorted = 0;
      if (!WARM_RULE("client.recall_reads_feed")) named.clear();
      std::sort(named.begin(), named.end());
      named.erase(std::unique(named.begin(), named.end()), named.end());
      // What the feed named is scored once, as it is now. Who died later than the feed was followed stays a candidate: its id
      // says what came of it.
      const uint64_t followed = pass.connection->feed.sequence_below(pass.position);
      for (Ranking& ranking : pass.rankings) {
        ranking.drop(
            [&](const Candidate& c) {
              return std::binary_search(named.begin(), named.end(), c.slot) || reader.died_before(c.slot, c.put, followed);
            },
            reader);
      }
    }
    bool more = false;
    if (auto scored = score_named(patience, named, more); !scored) return scored;
    if (!more) return {};
    if (++rounds == layout::kRecallRounds) {
      pass.overtaken = true;  // by changes that came faster than they could be looked at
      return {};
    }
  }
}

// From candidates to hits: the id of each is read and looked up, so that what is returned is what the index names. A record that
// took a candidate's place is scored anew and takes its own.
base::Status Scan::resolve(size_t q, Patience& patience, Outcome& outcome) {
  const Query& query = queries_[q];
  Pass& pass = *pass_;
  std::vector<Item> items;
  for (const Candidate& candidate : pass.rankings[q].candidates()) items.push_back({.candidate = candidate, .view = {}});
  // By ids: between two looks at one it may have been replaced again, and its put is another then.
  std::unordered_set<std::string> taken;
  base::Status failed;
  {
    Reader reader(state_, pass);
    if (!reader.good()) {
      pass.over.store(true, std::memory_order_relaxed);
      return {};
    }
    std::sort(items.begin(), items.end(), [&](Item& a, Item& b) { return before(a.candidate, b.candidate, reader); });
  }
  Trouble trouble;
  size_t next = 0;
  while (next < items.size() && outcome.hits.size() < query.limit()) {
    Item& item = items[next];
    if (item.view) {
      outcome.hits.push_back({.view = std::move(item.view), .score = item.candidate.score});
      ++next;
      continue;
    }
    if (item.candidate.id.empty()) {
      Lookup verdict;
      Record record;
      {
        Reader reader(state_, pass);
        if (!reader.good()) {
          pass.over.store(true, std::memory_order_relaxed);
          break;
        }
        verdict = reader.record(item.candidate.slot, item.candidate.put, record);
        if (verdict == Lookup::found) {
          item.candidate.id.assign(reinterpret_cast<const char*>(record.id), record.header.id_bytes);
          item.candidate.id_known = true;
        }
      }
      if (verdict == Lookup::corrupt) ++pass.damaged;
      if (verdict == Lookup::absent) outcome.again = true;
      if (verdict == Lookup::corrupt || verdict == Lookup::absent) ++next;
      if (verdict == Lookup::found || verdict == Lookup::corrupt || verdict == Lookup::absent) continue;
      failed = overcome(state_, verdict, nullptr, 0, record, patience, trouble);
      if (!failed) break;
      continue;
    }
    WARM_STEP("client.recall_before_id");
    // Leaving this out returns what the slot holds, whatever the index says.
    Candidate now = item.candidate;
    warm_view view = WARM_VIEW_INIT;
    bool wanted = false;
    const auto take = [&](ThreadRecord& me, const Attachment& a, InPlace& source, Record& record) {
      now.put = record.line.put;
      now.slot = record.slot;
      wanted = query.filter().passes(record);
      if (wanted && now.put != item.candidate.put) {
        // Pinned: it holds still.
        now.score = query.score(floats_at(record.embedding), record.line.created_ns);
        ++rescored_;
      }
      wanted = wanted && now.score >= query.threshold();
      if (wanted) return view_of(state_, me, a, source, 0, record, view);
      unpin<Want::view>(a, record);
      return Lookup::found;
    };
    if (WARM_RULE("client.recall_asks_index")) {
      auto found = seek<Want::view, InPlace, true>(state_, patience, item.candidate.id.data(), item.candidate.id.size(), take);
      if (!found && found.error().code != WARM_E_CORRUPT) {
        failed = base::pass(std::move(found));
        break;
      }
      if (!found) ++pass.damaged;
      if (!found || *found == Presence::absent) wanted = false;
    } else {
      ThreadRecord& me = state_.thread();
      state_.enter(me);
      const Attachment* a = state_.attachment.load(std::memory_order_acquire);
      if (me.link != a->link) state_.switch_link(me, *a->link);
      InPlace source;
      Record record;
      if (examine_slot<Want::view>(source, state_, me, *a, now.slot, now.put, record) == Lookup::found) {
        take(me, *a, source, record);
      }
      ClientState::leave(me);
    }
    if (!wanted) {
      ++next;
      continue;
    }
    HeldView held(state_, view);
    if (!taken.insert(now.id).second && WARM_RULE("client.recall_takes_once")) {
      ++next;
      continue;
    }
    item.view = std::move(held);
    const bool same = now.score == item.candidate.score;
    item.candidate = std::move(now);
    if (same) continue;
    // Down, or up, to where it belongs among those that are left.
    Reader reader(state_, pass);
    if (!reader.good()) {
      pass.over.store(true, std::memory_order_relaxed);
      break;
    }
    std::sort(items.begin() + static_cast<std::ptrdiff_t>(next), items.end(),
              [&](Item& a, Item& b) { return before(a.candidate, b.candidate, reader); });
  }
  // One that was scored anew may have come to stand above those that were taken before it.
  std::sort(outcome.hits.begin(), outcome.hits.end(), [](const Outcome::Hit& a, const Outcome::Hit& b) {
    if (a.score != b.score) return a.score > b.score;
    const int order = std::memcmp(a.view->id, b.view->id, std::min(a.view->id_bytes, b.view->id_bytes));
    return order != 0 ? order < 0 : a.view->id_bytes < b.view->id_bytes;
  });
  const Ranking& ranking = pass.rankings[q];
  outcome.certain =
      ranking.ceiling() == kNoScore || (outcome.hits.size() == query.limit() && outcome.hits.back().score >= ranking.ceiling());
  return failed;
}

base::Status Scan::finish(warm_hit* ret_hits, size_t* ret_counts, warm_recall_info* ret_info) {
  if (state_.stamp != fork_stamp()) return base::fail(WARM_E_STALE, "the scan is from before a fork");
  Patience patience(state_.timeout_ns);
  std::vector<Outcome> outcomes;
  bool partial = false;
  uint64_t sequence = 0;
  base::Status failed;
  for (uint32_t passes = 0, rounds = 0;;) {
    outcomes.clear();
    if (failed = work(); !failed) break;
    bool again = false;
    sequence = layout::load_acquire(pass_->connection->status().sequence);
    if (failed = settle(patience, again); !failed) break;
    bool certain = true;
    bool more = false;
    if (!again) {
      for (size_t q = 0; q < queries_.size() && failed; ++q) {
        Outcome& outcome = outcomes.emplace_back();
        failed = resolve(q, patience, outcome);
        certain = certain && outcome.certain;
        more = more || outcome.again;
      }
      if (!failed) break;
      again = pass_->over.load(std::memory_order_relaxed);
    }
    if (again) {
      // Another daemon: nothing of its changes stands in the feed that was followed.
      if (patience.deadline().passed()) {
        failed =
            base::fail(WARM_E_BUSY, "the daemon was replaced while the columns were scanned, again and again until the deadline");
        break;
      }
      ::sched_yield();
      if (failed = begin(patience); !failed) break;
      continue;
    }
    // The feed knows by now what became of them.
    if (more && rounds++ < layout::kRecallRounds) continue;
    if (certain && !more && !pass_->overtaken) break;
    if (++passes == layout::kRecallPasses) {
      partial = true;
      break;
    }
    widened_ *= 8;
    if (failed = begin(patience); !failed) break;
  }
  if (!failed) return failed;
  for (size_t q = 0; q < queries_.size(); ++q) {
    ret_counts[q] = outcomes[q].hits.size();
    std::transform(outcomes[q].hits.begin(), outcomes[q].hits.end(), ret_hits,
                   [](Outcome::Hit& hit) { return warm_hit{.view = hit.view.take(), .score = hit.score}; });
    ret_hits += queries_[q].limit();
  }
  if (ret_info != nullptr) {
    ret_info->partial = partial ? 1 : 0;
    ret_info->scanned = pass_->scanned;
    ret_info->matched = pass_->matched;
    ret_info->rescored = rescored_;
    ret_info->damaged = pass_->damaged;
    ret_info->sequence = sequence;
    ret_info->kernel = vector::kernels().name;
  }
  return {};
}

}  // namespace warmtier::libclient
