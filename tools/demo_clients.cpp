#include "tools/demo_clients.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <type_traits>

#include "base/checked.hpp"
#include "base/clock.hpp"
#include "base/hash.hpp"
#include "tools/lexical.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::tools {
namespace {

constexpr uint32_t kTimeoutMs = 20'000;
constexpr uint32_t kRetriesMax = 5;
constexpr uint32_t kReplacedVersion = 1;  // of a gloss under a held view; the others have version 0
constexpr uint64_t kFirstCreatedNs = 1'165'276'800'000'000'000;  // December 2006, when WordNet 3.0 came out
constexpr std::string_view kGlossPrefix = "wn30:";
constexpr size_t kVictimContentBytes = size_t{16} << 10;

using Embedding = std::array<float, kLexicalDimensions>;

// ---- What a record must be: everything follows from the gloss and the version ----------------------------------------------

struct Scalars {
  float confidence;
  float activation;
  float decay_rate;
  uint64_t created_ns;
};

Scalars scalars_of(uint64_t number, uint64_t version) {
  return {.confidence = static_cast<float>(number % 1000) / 1000.0f,
          .activation = static_cast<float>(version),
          .decay_rate = static_cast<float>((number ^ version) % 97) / 97.0f,
          .created_ns = kFirstCreatedNs + number};
}

void embed_gloss(const Gloss& gloss, Embedding& ret_embedding) {
  std::string text;
  text.reserve(gloss.words.size() + gloss.text.size() + 2);
  text.append(gloss.words).append(": ").append(gloss.text);
  lexical_embedding(text, ret_embedding);
}

std::string victim_id(uint64_t version) { return "victim:" + std::to_string(version % kVictimIds); }

// Bytes and floats that no other version has anywhere: a mix of two versions cannot pass.
void fill_victim(uint64_t version, std::vector<uint64_t>& ret_content, Embedding& ret_embedding) {
  ret_content.resize(kVictimContentBytes / sizeof(uint64_t));
  for (size_t i = 0; i < ret_content.size(); ++i) ret_content[i] = version * ret_content.size() + i;
  for (size_t i = 0; i < ret_embedding.size(); ++i) ret_embedding[i] = static_cast<float>((version * 131 + i) % 8191);
}

// ---- Saying what did not hold ------------------------------------------------------------------------------------------------

[[gnu::format(printf, 2, 3)]] int failed(ClientRow& row, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(row.failure, sizeof row.failure, format, arguments);
  va_end(arguments);
  row.failed.store(1, std::memory_order_release);
  return 1;
}

void ring(const Stage& stage) {
  const uint64_t one = 1;
  // The counter cannot overflow and the descriptor is ours: nothing can fail that would matter.
  [[maybe_unused]] const ssize_t written = ::write(stage.bell, &one, sizeof one);
}

void count(ClientRow& row, uint64_t ns) {
  row.operations.store(row.operations.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  row.longest_ns.store(std::max(row.longest_ns.load(std::memory_order_relaxed), ns), std::memory_order_relaxed);
  row.times.add(ns);
}

// ---- A client with an owner --------------------------------------------------------------------------------------------------

class Client {
 public:
  explicit Client(const Stage& stage) {
    warm_options options = WARM_OPTIONS_INIT;
    options.socket = stage.socket.c_str();
    options.timeout_ms = kTimeoutMs;
    code_ = warm_open(&options, &client_);
  }
  ~Client() { warm_close(client_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  [[nodiscard]] int code() const { return code_; }
  [[nodiscard]] warm_client* get() const { return client_; }

 private:
  warm_client* client_ = nullptr;
  int code_ = WARM_OK;
};

int failed_call(ClientRow& row, const char* call, const char* id, int code) {
  return failed(row, "%s of %s: %s (%s)", call, id, warm_error_name(code), warm_last_error());
}

// ---- Checking one view -------------------------------------------------------------------------------------------------------

bool same_bytes(const void* seen, size_t seen_bytes, const void* wanted, size_t wanted_bytes) {
  return seen_bytes == wanted_bytes && std::memcmp(seen, wanted, wanted_bytes) == 0;
}

// What is wrong with the view, or null.
const char* fault_of(const warm_view& view, const std::string& id, uint64_t number, uint64_t version, const Embedding& embedding,
                     const void* content, size_t content_bytes) {
  const Scalars scalars = scalars_of(number, version);
  if (!same_bytes(view.id, view.id_bytes, id.data(), id.size())) return "another id";
  if (!same_bytes(view.embedding, view.dimensions * sizeof(float), embedding.data(), sizeof embedding))
    return "another embedding";
  if (view.content_state != WARM_CONTENT_PRESENT) return "its content is absent";
  if (!same_bytes(view.content, view.content_bytes, content, content_bytes)) return "other content";
  if (view.confidence != scalars.confidence || view.activation != scalars.activation || view.decay_rate != scalars.decay_rate) {
    return "other scalars";
  }
  if (view.created_ns != scalars.created_ns) return "another created time";
  return nullptr;
}

const char* fault_of_gloss(const warm_view& view, const Gloss& gloss, uint64_t number, Embedding& scratch) {
  if (view.recall_count > kReplacedVersion) return "a version that nobody put";
  embed_gloss(gloss, scratch);
  return fault_of(view, gloss.id, number, view.recall_count, scratch, gloss.text.data(), gloss.text.size());
}

// Gets and checks one gloss; `number` must have been acknowledged. The time of warm_get alone goes to the row.
int get_and_check(const Stage& stage, Client& client, ClientRow& row, uint32_t number, Embedding& scratch) {
  const Gloss& gloss = (*stage.glosses)[number];
  const uint64_t at_least = stage.board->sequences[number].load(std::memory_order_acquire);
  warm_view view = WARM_VIEW_INIT;
  const uint64_t before_ns = base::monotonic_ns();
  const int code = warm_get(client.get(), gloss.id.data(), gloss.id.size(), 0, &view);
  const uint64_t took_ns = base::monotonic_ns() - before_ns;
  if (code != WARM_OK) return failed_call(row, "get", gloss.id.c_str(), code);
  const char* fault = fault_of_gloss(view, gloss, number, scratch);
  const uint64_t sequence = view.sequence;
  warm_release(client.get(), &view);
  if (fault != nullptr) return failed(row, "get of %s: %s (sequence %lu)", gloss.id.c_str(), fault, sequence);
  if (sequence < at_least) {
    return failed(row, "get of %s: sequence %lu, but %lu was acknowledged", gloss.id.c_str(), sequence, at_least);
  }
  count(row, took_ns);
  return 0;
}

// ---- Putting -----------------------------------------------------------------------------------------------------------------

warm_memory memory_of(const std::string& id, uint64_t number, uint64_t version, const Embedding& embedding, const void* content,
                      size_t content_bytes) {
  const Scalars scalars = scalars_of(number, version);
  warm_memory memory = WARM_MEMORY_INIT;
  memory.given = WARM_GIVEN_CONTENT | WARM_GIVEN_CREATED;
  memory.id = id.data();
  memory.id_bytes = id.size();
  memory.embedding = embedding.data();
  memory.dimensions = kLexicalDimensions;
  memory.content = content;
  memory.content_bytes = content_bytes;
  memory.confidence = scalars.confidence;
  memory.activation = scalars.activation;
  memory.decay_rate = scalars.decay_rate;
  memory.created_ns = scalars.created_ns;
  memory.recall_count = static_cast<uint32_t>(version);
  return memory;
}

// Puts until it is acknowledged. What was published without an answer may be put again: the bytes are the same.
int put_gloss(const Stage& stage, Client& client, ClientRow& row, uint32_t number, uint64_t version, Embedding& scratch) {
  const Gloss& gloss = (*stage.glosses)[number];
  embed_gloss(gloss, scratch);
  const warm_memory memory = memory_of(gloss.id, number, version, scratch, gloss.text.data(), gloss.text.size());
  for (uint32_t attempt = 0;; ++attempt) {
    uint64_t sequence = 0;
    const uint64_t before_ns = base::monotonic_ns();
    const int code = warm_put(client.get(), &memory, &sequence);
    if (code == WARM_OK) {
      count(row, base::monotonic_ns() - before_ns);
      stage.board->sequences[number].store(sequence, std::memory_order_release);
      return 0;
    }
    const bool again = code == WARM_E_BUSY || code == WARM_E_UNAVAILABLE || code == WARM_E_UNKNOWN;
    if (!again || attempt == kRetriesMax) return failed_call(row, "put", gloss.id.c_str(), code);
    row.retries.fetch_add(1, std::memory_order_relaxed);
  }
}

// A view that a reader keeps, with the copy that it is held against.
struct Kept {
  warm_view view = WARM_VIEW_INIT;
  Embedding embedding{};
  std::string content;
  uint32_t number = 0;
};

int take_views(const Stage& stage, Client& client, ClientRow& row, uint32_t reader, std::vector<Kept>& kept, uint64_t hold_from) {
  ReaderBook& book = stage.board->books[reader];
  for (uint32_t i = 0; i < kHeldViews; ++i) {
    // Spread over what there is; no two readers hold the same, so that each is replaced once.
    const uint64_t number = (uint64_t{i} * kReaders + reader) * hold_from / (uint64_t{kHeldViews} * kReaders);
    const Gloss& gloss = (*stage.glosses)[number];
    Kept& one = kept.emplace_back();
    const int code = warm_get(client.get(), gloss.id.data(), gloss.id.size(), 0, &one.view);
    if (code != WARM_OK) return failed_call(row, "get", gloss.id.c_str(), code);
    one.number = static_cast<uint32_t>(number);
    std::memcpy(one.embedding.data(), one.view.embedding, sizeof one.embedding);
    one.content.assign(static_cast<const char*>(one.view.content), one.view.content_bytes);
    book.views[i].index.store(one.number, std::memory_order_relaxed);
  }
  book.held.store(kHeldViews, std::memory_order_release);
  ring(stage);
  return 0;
}

int check_kept(const Stage& stage, Client& client, ClientRow& row, uint32_t reader, const std::vector<Kept>& kept) {
  uint32_t current = 0;
  uint32_t replaced = 0;
  uint32_t stale = 0;
  for (const Kept& one : kept) {
    const Gloss& gloss = (*stage.glosses)[one.number];
    uint32_t state = WARM_VIEW_CURRENT;
    const int code = warm_view_check(client.get(), &one.view, &state);
    if (code == WARM_E_STALE) {
      ++stale;  // it says itself that it means nothing any more
      continue;
    }
    if (code != WARM_OK) return failed_call(row, "view check", gloss.id.c_str(), code);
    if (state == WARM_VIEW_REMOVED) return failed(row, "held view of %s: removed, but nobody removes", gloss.id.c_str());
    ++(state == WARM_VIEW_CURRENT ? current : replaced);
    if (!same_bytes(one.view.embedding, sizeof one.embedding, one.embedding.data(), sizeof one.embedding) ||
        !same_bytes(one.view.content, one.view.content_bytes, one.content.data(), one.content.size()) ||
        !same_bytes(one.view.id, one.view.id_bytes, gloss.id.data(), gloss.id.size())) {
      return failed(row, "held view of %s changed", gloss.id.c_str());
    }
  }
  ReaderBook& book = stage.board->books[reader];
  book.seen_current.store(current, std::memory_order_relaxed);
  book.seen_replaced.store(replaced, std::memory_order_relaxed);
  book.seen_stale.store(stale, std::memory_order_relaxed);
  return 0;
}

}  // namespace

Board* make_board(uint32_t glosses) {
  const size_t sequences_at = base::round_up(sizeof(Board), size_t{64});
  const size_t bytes = sequences_at + glosses * sizeof(uint64_t);
  void* map = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  auto* board = new (map) Board();
  board->glosses = glosses;
  board->sequences = new (static_cast<std::byte*>(map) + sequences_at) std::atomic<uint64_t>[glosses]();
  return board;
}

int run_writer(const Stage& stage, uint32_t writer) {
  Board& board = *stage.board;
  ClientRow& row = board.writers[writer];
  Client client(stage);
  if (client.code() != WARM_OK) return failed_call(row, "open", stage.socket.c_str(), client.code());
  Embedding scratch{};
  uint64_t acknowledged = 0;
  for (uint32_t number = writer; number < board.glosses; number += kWriters) {
    if (const int result = put_gloss(stage, client, row, number, 0, scratch); result != 0) return result;
    // From here on its absence is a fault.
    board.acknowledged[writer].store(++acknowledged, std::memory_order_release);
  }
  row.ended_ns.store(base::monotonic_ns(), std::memory_order_relaxed);
  row.done.store(1, std::memory_order_release);
  ring(stage);
  return 0;
}

int run_reader(const Stage& stage, uint32_t reader, uint64_t hold_from) {
  Board& board = *stage.board;
  ClientRow& row = board.readers[reader];
  ReaderBook& book = board.books[reader];
  Client client(stage);
  if (client.code() != WARM_OK) return failed_call(row, "open", stage.socket.c_str(), client.code());
  Embedding scratch{};
  std::mt19937_64 random(reader + 1);
  std::vector<Kept> kept;
  kept.reserve(kHeldViews);
  while (board.stop.load(std::memory_order_acquire) == 0) {
    const Acknowledged acknowledged = acknowledged_now(board);
    const auto writer = static_cast<uint32_t>(random() % kWriters);
    if (acknowledged[writer] != 0) {
      const auto number = static_cast<uint32_t>(writer + random() % acknowledged[writer] * kWriters);
      if (const int result = get_and_check(stage, client, row, number, scratch); result != 0) return result;
    }
    if (kept.empty() && *std::ranges::min_element(acknowledged) * kWriters >= hold_from) {
      if (const int result = take_views(stage, client, row, reader, kept, hold_from); result != 0) return result;
    }
    const uint32_t wanted = book.checks_wanted.load(std::memory_order_acquire);
    if (wanted != book.checks_done.load(std::memory_order_relaxed)) {
      if (const int result = check_kept(stage, client, row, reader, kept); result != 0) return result;
      book.checks_done.store(wanted, std::memory_order_release);
      ring(stage);
    }
  }
  for (Kept& one : kept) warm_release(client.get(), &one.view);
  row.done.store(1, std::memory_order_release);
  return 0;
}

int run_victim(const Stage& stage) {
  VictimBook& book = stage.board->victim;
  Client client(stage);
  if (client.code() != WARM_OK) return failed_call(stage.board->helper, "open", stage.socket.c_str(), client.code());
  Embedding embedding{};
  std::vector<uint64_t> content;
  for (;;) {
    const uint64_t version = book.next.fetch_add(1, std::memory_order_acq_rel);
    const std::string id = victim_id(version);
    fill_victim(version, content, embedding);
    const warm_memory memory =
        memory_of(id, version % kVictimIds, version, embedding, content.data(), content.size() * sizeof(uint64_t));
    const int code = warm_put(client.get(), &memory, nullptr);
    if (code != WARM_OK) return failed_call(stage.board->helper, "put", id.c_str(), code);
    book.acknowledged[version % kVictimIds].store(version, std::memory_order_release);
    book.puts.fetch_add(1, std::memory_order_relaxed);
    if (book.ready.exchange(1, std::memory_order_acq_rel) == 0) ring(stage);
  }
}

int run_victim_checker(const Stage& stage) {
  VictimBook& book = stage.board->victim;
  ClientRow& row = stage.board->helper;
  Client client(stage);
  if (client.code() != WARM_OK) return failed_call(row, "open", stage.socket.c_str(), client.code());
  Embedding embedding{};
  std::vector<uint64_t> content;
  for (uint64_t i = 0; i < kVictimIds; ++i) {
    const std::string id = victim_id(i);
    const uint64_t acknowledged = book.acknowledged[i].load(std::memory_order_acquire);
    warm_view view = WARM_VIEW_INIT;
    const int code = warm_get(client.get(), id.data(), id.size(), 0, &view);
    if (code == WARM_E_NOT_FOUND && acknowledged == 0) continue;
    if (code != WARM_OK) return failed_call(row, "get", id.c_str(), code);
    const uint64_t version = view.recall_count;
    fill_victim(version, content, embedding);
    const char* fault = fault_of(view, id, i, version, embedding, content.data(), content.size() * sizeof(uint64_t));
    warm_release(client.get(), &view);
    if (fault != nullptr) return failed(row, "get of %s, version %lu: %s", id.c_str(), version, fault);
    if (version < acknowledged || version >= book.next.load(std::memory_order_acquire)) {
      return failed(row, "get of %s: version %lu, but %lu was acknowledged", id.c_str(), version, acknowledged);
    }
  }
  return 0;
}

int run_checker(const Stage& stage, const Acknowledged& acknowledged) {
  ClientRow& row = stage.board->helper;
  row.done.store(0, std::memory_order_release);
  Client client(stage);
  if (client.code() != WARM_OK) return failed_call(row, "open", stage.socket.c_str(), client.code());
  Embedding scratch{};
  uint32_t checked = 0;
  for (uint32_t writer = 0; writer < kWriters; ++writer) {
    for (uint64_t k = 0; k < acknowledged[writer]; ++k, ++checked) {
      const auto number = static_cast<uint32_t>(writer + k * kWriters);
      if (const int result = get_and_check(stage, client, row, number, scratch); result != 0) return result;
    }
  }
  row.done.store(checked, std::memory_order_release);
  return 0;
}

int run_replacer(const Stage& stage, uint32_t from, uint32_t to) {
  ClientRow& row = stage.board->helper;
  Client client(stage);
  if (client.code() != WARM_OK) return failed_call(row, "open", stage.socket.c_str(), client.code());
  Embedding scratch{};
  for (const ReaderBook& book : stage.board->books) {
    for (uint32_t i = from; i < to; ++i) {
      const uint32_t number = book.views[i].index.load(std::memory_order_acquire);
      if (const int result = put_gloss(stage, client, row, number, kReplacedVersion, scratch); result != 0) return result;
    }
  }
  return 0;
}

int run_recall(const Stage& stage) {
  ClientRow& row = stage.board->helper;
  RecallBook& book = stage.board->recall;
  Client client(stage);
  if (client.code() != WARM_OK) return failed_call(row, "open", stage.socket.c_str(), client.code());
  // The killed clients' records are not asked for.
  warm_filter filter = WARM_FILTER_INIT;
  filter.id_prefix = kGlossPrefix.data();
  filter.id_prefix_bytes = kGlossPrefix.size();
  Embedding embedding{};
  std::array<warm_hit, kQueryLimit> hits{};
  for (size_t i = 0; i < kQueries.size(); ++i) {
    const Query& wanted = kQueries[i];
    lexical_embedding(wanted.text, embedding);
    warm_query query = WARM_QUERY_INIT;
    query.embedding = embedding.data();
    query.dimensions = kLexicalDimensions;
    query.limit = kQueryLimit;
    query.filter = &filter;
    hits.fill(warm_hit{.view = WARM_VIEW_INIT, .score = 0});
    warm_recall_info info = WARM_RECALL_INFO_INIT;
    size_t found = 0;
    const uint64_t before_ns = base::monotonic_ns();
    const int code = warm_recall(client.get(), &query, hits.data(), &found, &info);
    book.ns[i] = base::monotonic_ns() - before_ns;
    if (code != WARM_OK) return failed_call(row, "recall", wanted.text, code);
    for (size_t rank = 0; rank < found; ++rank) {
      const warm_view& view = hits[rank].view;
      if (same_bytes(view.id, view.id_bytes, wanted.expected_id, std::strlen(wanted.expected_id)))
        book.rank[i] = static_cast<uint32_t>(rank + 1);
    }
    book.scanned = info.scanned;
    std::snprintf(book.kernel, sizeof book.kernel, "%s", info.kernel);
    warm_hits_release(client.get(), hits.data(), found);
  }
  return 0;
}

// examples/python/checksum.py computes the same.
int run_checksum(const Stage& stage) {
  ClientRow& row = stage.board->helper;
  Client client(stage);
  if (client.code() != WARM_OK) return failed_call(row, "open", stage.socket.c_str(), client.code());
  uint64_t sum = 0;
  for (const Gloss& gloss : *stage.glosses) {
    warm_view view = WARM_VIEW_INIT;
    const int code = warm_get(client.get(), gloss.id.data(), gloss.id.size(), 0, &view);
    if (code != WARM_OK) return failed_call(row, "get", gloss.id.c_str(), code);
    const uint64_t of_id = base::hash64(view.id, view.id_bytes, 0);
    const uint64_t of_content = base::hash64(view.content, view.content_bytes, of_id);
    sum += base::hash64(view.embedding, view.dimensions * sizeof(float), of_content);
    warm_release(client.get(), &view);
  }
  stage.board->checksum.records = stage.glosses->size();
  stage.board->checksum.sum = sum;
  return 0;
}

int run_status(const Stage& stage) {
  ClientRow& row = stage.board->helper;
  StatusBook& book = stage.board->status;
  Client client(stage);
  if (client.code() != WARM_OK) return failed_call(row, "open", stage.socket.c_str(), client.code());
  warm_stats stats = WARM_STATS_INIT;
  const int code = warm_stats_get(client.get(), &stats);
  if (code != WARM_OK) return failed_call(row, "stats", stage.socket.c_str(), code);
  book.io_backend = stats.io_backend;
  book.records = stats.records;
  book.segments = stats.segments;
  book.content_bytes_total = stats.content_bytes_total;
  book.slots_allocated = stats.slots_allocated;
  book.slots_waiting = stats.slots_waiting;
  book.slots_held = stats.slots_held;
  book.sequence = stats.sequence;
  book.sessions = stats.sessions;
  book.lane_repairs = stats.lane_repairs;
  book.lanes_fenced = stats.lanes_fenced;
  book.pins_voided = stats.pins_voided;
  book.sessions_ended = stats.sessions_ended;
  book.checkpoints = stats.checkpoints;
  book.requests_recovered = stats.requests_recovered;
  book.bad_requests = stats.bad_requests;
  book.damaged_records = stats.damaged_records;
  return 0;
}

}  // namespace warmtier::tools
