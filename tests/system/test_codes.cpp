// Every call returns only codes that its comment in warmtier.h lists: each call in each of these situations, held against the
// header itself. A call that is added to the header must be added here.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

using namespace warmtier::tests::support;
namespace base = warmtier::base;

namespace {

constexpr uint32_t kTimeoutMs = 60;
constexpr uint32_t kDimensions = 16;

// By the name of the call: the codes that its comment lists. "as warm_x" means the codes of warm_x too.
std::map<std::string, std::set<std::string>> codes_of_the_header() {
  std::ifstream file(WARMTIER_HEADER);
  std::stringstream all;
  all << file.rdbuf();
  const std::string text = all.str();
  std::map<std::string, std::set<std::string>> codes;
  std::map<std::string, std::vector<std::string>> like;
  const std::regex call(R"(WARM_EXPORT int (warm_\w+)\()");
  const std::regex code(R"(WARM_OK|WARM_E_\w+)");
  const std::regex as(R"((?:as|of) (warm_\w+))");
  for (std::sregex_iterator it(text.begin(), text.end(), call), end; it != end; ++it) {
    const std::string name = (*it)[1];
    const size_t comment = text.rfind("/*", static_cast<size_t>(it->position()));
    const size_t from = text.find(" * Returns:", comment);
    const std::string list = text.substr(from, text.find(" * Lifetime:", from) - from);
    for (std::sregex_iterator one(list.begin(), list.end(), code); one != end; ++one) codes[name].insert(one->str());
    for (std::sregex_iterator one(list.begin(), list.end(), as); one != end; ++one) like[name].push_back((*one)[1]);
  }
  for (const auto& [name, others] : like) {
    for (const std::string& other : others) codes[name].insert(codes[other].begin(), codes[other].end());
  }
  return codes;
}

struct Held {
  warm_client* client = nullptr;
  warm_view view = WARM_VIEW_INIT;
  warm_ticket ticket = 0;
};

warm_memory memory_of(const std::string& id, const std::vector<float>& embedding) {
  warm_memory memory = WARM_MEMORY_INIT;
  memory.id = id.data();
  memory.id_bytes = id.size();
  memory.embedding = embedding.data();
  memory.dimensions = static_cast<uint32_t>(embedding.size());
  return memory;
}

warm_query query_of(const std::vector<float>& embedding) {
  warm_query query = WARM_QUERY_INIT;
  query.embedding = embedding.data();
  query.dimensions = static_cast<uint32_t>(embedding.size());
  query.limit = 1;
  return query;
}

// nullptr when it cannot be opened: the calls on it are told of that.
warm_recall_scan* scan_of(const Held& held, const std::vector<float>& embedding) {
  const warm_query query = query_of(embedding);
  warm_recall_scan* scan = nullptr;
  return warm_recall_open(held.client, &query, 1, &scan) == WARM_OK ? scan : nullptr;
}

warm_update update_of(const std::string& id) {
  warm_update update = WARM_UPDATE_INIT;
  update.id = id.data();
  update.id_bytes = id.size();
  update.set = WARM_SET_RECALL_COUNT;
  return update;
}

// One call each, with arguments that are right, or NULL where the situation says so.
struct Call {
  const char* name;
  std::function<int(Held&, bool wrong)> make;
};
const std::vector<Call>& calls() {
  static const std::string id = "codes";
  static const std::vector<float> embedding(kDimensions, 1.0F);
  static const std::vector<Call> all = {
      {"warm_info_get",
       [](Held& held, bool wrong) {
         warm_info info = WARM_INFO_INIT;
         return warm_info_get(held.client, wrong ? nullptr : &info);
       }},
      {"warm_put",
       [](Held& held, bool wrong) {
         const warm_memory memory = memory_of(id, embedding);
         return warm_put(held.client, wrong ? nullptr : &memory, nullptr);
       }},
      {"warm_remove",
       [](Held& held, bool wrong) {
         return warm_remove(held.client, wrong ? nullptr : id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr);
       }},
      {"warm_update_scalars",
       [](Held& held, bool wrong) {
         const warm_update update = update_of(id);
         return warm_update_scalars(held.client, wrong ? nullptr : &update, nullptr);
       }},
      {"warm_update_submit",
       [](Held& held, bool wrong) {
         const warm_update update = update_of(id);
         return warm_update_submit(held.client, &update, wrong ? nullptr : &held.ticket);
       }},
      {"warm_touch",
       [](Held& held, bool wrong) {
         const warm_id one{id.data(), id.size()};
         return warm_touch(held.client, wrong ? nullptr : &one, 1, nullptr);
       }},
      {"warm_clear",
       [](Held& held, bool wrong) {
         warm_client* const none = nullptr;
         return warm_clear(wrong ? none : held.client, nullptr);
       }},
      {"warm_put_many",
       [](Held& held, bool wrong) {
         const warm_memory memory = memory_of(id, embedding);
         warm_result result{};
         return warm_put_many(held.client, &memory, 1, wrong ? nullptr : &result);
       }},
      {"warm_remove_many",
       [](Held& held, bool wrong) {
         const warm_id one{id.data(), id.size()};
         warm_result result{};
         return warm_remove_many(held.client, wrong ? nullptr : &one, 1, 0, &result);
       }},
      {"warm_put_submit",
       [](Held& held, bool wrong) {
         const warm_memory memory = memory_of(id, embedding);
         return warm_put_submit(held.client, &memory, wrong ? nullptr : &held.ticket);
       }},
      {"warm_remove_submit",
       [](Held& held, bool wrong) {
         return warm_remove_submit(held.client, id.data(), id.size(), WARM_IF_ANY, 0, 0, wrong ? nullptr : &held.ticket);
       }},
      {"warm_ticket_poll",
       [](Held& held, bool wrong) {
         warm_result result{};
         return warm_ticket_poll(held.client, held.ticket, wrong ? nullptr : &result);
       }},
      {"warm_ticket_wait",
       [](Held& held, bool wrong) {
         warm_result result{};
         return warm_ticket_wait(held.client, held.ticket, kTimeoutMs, wrong ? nullptr : &result);
       }},
      {"warm_completions",
       [](Held& held, bool wrong) {
         warm_completion completions[4];
         size_t count = 0;
         return warm_completions(held.client, wrong ? nullptr : completions, 4, &count);
       }},
      {"warm_completion_fd",
       [](Held& held, bool wrong) {
         int fd = -1;
         return warm_completion_fd(held.client, wrong ? nullptr : &fd);
       }},
      {"warm_get",
       [](Held& held, bool wrong) {
         warm_view view = WARM_VIEW_INIT;
         const int code = warm_get(held.client, id.data(), wrong ? 0 : id.size(), 0, &view);
         if (code == WARM_OK) warm_release(held.client, &view);
         return code;
       }},
      {"warm_get_many",
       [](Held& held, bool wrong) {
         const warm_id one{id.data(), id.size()};
         warm_view view = WARM_VIEW_INIT;
         int32_t found = 0;
         const int code = warm_get_many(held.client, &one, 1, 0, wrong ? nullptr : &view, &found);
         if (code == WARM_OK && found == WARM_OK) warm_release(held.client, &view);
         return code;
       }},
      {"warm_get_copy",
       [](Held& held, bool wrong) {
         warm_copy copy = WARM_COPY_INIT;
         return warm_get_copy(held.client, id.data(), id.size(), 0, wrong ? nullptr : &copy);
       }},
      {"warm_scalars_get",
       [](Held& held, bool wrong) {
         warm_scalars scalars = WARM_SCALARS_INIT;
         return warm_scalars_get(held.client, id.data(), id.size(), wrong ? nullptr : &scalars);
       }},
      {"warm_cursor_open",
       [](Held& held, bool wrong) {
         warm_cursor* cursor = nullptr;
         const int code = warm_cursor_open(held.client, nullptr, wrong ? nullptr : &cursor);
         if (code == WARM_OK) warm_cursor_close(cursor);
         return code;
       }},
      {"warm_cursor_next",
       [](Held& held, bool wrong) {
         warm_cursor* cursor = nullptr;
         warm_cursor_open(held.client, nullptr, &cursor);
         warm_view view = WARM_VIEW_INIT;
         size_t count = 0;
         const int code = warm_cursor_next(wrong ? nullptr : cursor, 0, &view, 1, &count);
         if (code == WARM_OK && count == 1) warm_release(held.client, &view);
         if (cursor != nullptr) warm_cursor_close(cursor);
         return code;
       }},
      {"warm_cursor_next_items",
       [](Held& held, bool wrong) {
         warm_cursor* cursor = nullptr;
         warm_cursor_open(held.client, nullptr, &cursor);
         warm_item item{};
         size_t count = 0;
         const int code = warm_cursor_next_items(wrong ? nullptr : cursor, sizeof item, &item, 1, &count);
         if (cursor != nullptr) warm_cursor_close(cursor);
         return code;
       }},
      {"warm_cursor_close",
       [](Held& held, bool wrong) {
         warm_cursor* cursor = nullptr;
         if (!wrong) warm_cursor_open(held.client, nullptr, &cursor);
         return warm_cursor_close(cursor);
       }},
      {"warm_count",
       [](Held& held, bool wrong) {
         uint64_t count = 0;
         return warm_count(held.client, nullptr, wrong ? nullptr : &count);
       }},
      {"warm_chunk_count",
       [](Held& held, bool wrong) {
         uint64_t chunks = 0;
         return warm_chunk_count(held.client, wrong ? nullptr : &chunks);
       }},
      {"warm_chunk_open",
       [](Held& held, bool wrong) {
         warm_chunk chunk = WARM_CHUNK_INIT;
         const int code = warm_chunk_open(held.client, 0, wrong ? nullptr : &chunk);
         if (code == WARM_OK) warm_chunk_close(held.client, &chunk);
         return code;
       }},
      {"warm_chunk_check",
       [](Held& held, bool wrong) {
         warm_chunk chunk = WARM_CHUNK_INIT;
         warm_chunk_open(held.client, 0, &chunk);
         const int code = warm_chunk_check(held.client, wrong ? nullptr : &chunk);
         warm_chunk_close(held.client, &chunk);
         return code;
       }},
      {"warm_chunk_view",
       [](Held& held, bool wrong) {
         warm_chunk chunk = WARM_CHUNK_INIT;
         warm_chunk_open(held.client, 0, &chunk);
         warm_view view = WARM_VIEW_INIT;
         const int code = warm_chunk_view(held.client, &chunk, 0, wrong ? nullptr : &view);
         if (code == WARM_OK) warm_release(held.client, &view);
         warm_chunk_close(held.client, &chunk);
         return code;
       }},
      {"warm_chunk_close",
       [](Held& held, bool wrong) {
         warm_chunk chunk = WARM_CHUNK_INIT;
         warm_chunk_open(held.client, 0, &chunk);
         return warm_chunk_close(held.client, wrong ? nullptr : &chunk);
       }},
      {"warm_exists", [](Held& held, bool wrong) { return warm_exists(held.client, wrong ? nullptr : id.data(), id.size()); }},
      {"warm_view_check",
       [](Held& held, bool wrong) {
         uint32_t state = 0;
         return warm_view_check(held.client, &held.view, wrong ? nullptr : &state);
       }},
      {"warm_recall",
       [](Held& held, bool wrong) {
         const warm_query query = query_of(embedding);
         warm_hit hit;
         size_t count = 0;
         const int code = warm_recall(held.client, wrong ? nullptr : &query, &hit, &count, nullptr);
         if (code == WARM_OK) warm_hits_release(held.client, &hit, count);
         return code;
       }},
      {"warm_recall_many",
       [](Held& held, bool wrong) {
         const warm_query query = query_of(embedding);
         warm_hit hit;
         size_t count = 0;
         const int code = warm_recall_many(held.client, &query, wrong ? 0 : 1, &hit, &count, nullptr);
         if (code == WARM_OK) warm_hits_release(held.client, &hit, count);
         return code;
       }},
      {"warm_hits_release",
       [](Held& held, bool wrong) {
         warm_hit hit{};
         hit.view = warm_view WARM_VIEW_INIT;
         return warm_hits_release(held.client, wrong ? nullptr : &hit, 1);
       }},
      {"warm_recall_open",
       [](Held& held, bool wrong) {
         const warm_query query = query_of(embedding);
         warm_recall_scan* scan = nullptr;
         const int code = warm_recall_open(held.client, &query, 1, wrong ? nullptr : &scan);
         if (code == WARM_OK) warm_recall_close(scan, nullptr, nullptr, nullptr);
         return code;
       }},
      {"warm_recall_work",
       [](Held& held, bool wrong) {
         warm_recall_scan* scan = scan_of(held, embedding);
         const int code = warm_recall_work(wrong ? nullptr : scan);
         if (scan != nullptr) warm_recall_close(scan, nullptr, nullptr, nullptr);
         return code;
       }},
      {"warm_recall_close",
       [](Held& held, bool wrong) {
         warm_recall_scan* scan = scan_of(held, embedding);
         warm_hit hit;
         size_t count = 0;
         const int code = warm_recall_close(scan, &hit, wrong ? nullptr : &count, nullptr);
         if (code == WARM_E_INVALID && scan != nullptr) warm_recall_close(scan, nullptr, nullptr, nullptr);
         if (code == WARM_OK) warm_hits_release(held.client, &hit, count);
         return code;
       }},
      {"warm_sequence_get",
       [](Held& held, bool wrong) {
         uint64_t sequence = 0;
         return warm_sequence_get(held.client, wrong ? nullptr : &sequence);
       }},
      {"warm_wait",
       [](Held& held, bool wrong) {
         uint64_t sequence = 0;
         return warm_wait(held.client, 0, kTimeoutMs, wrong ? nullptr : &sequence);
       }},
      {"warm_changes",
       [](Held& held, bool wrong) {
         warm_change changes[4];
         char ids[WARM_ID_BYTES_MAX];
         size_t count = 0;
         return warm_changes(held.client, 0, sizeof changes[0], wrong ? nullptr : changes, 4, ids, sizeof ids, &count);
       }},
      {"warm_checkpoint",
       [](Held& held, bool wrong) {
         uint64_t sequence = 0;
         return warm_checkpoint(wrong ? nullptr : held.client, &sequence);
       }},
      {"warm_sessions",
       [](Held& held, bool wrong) {
         warm_session sessions[4];
         size_t count = 0;
         return warm_sessions(held.client, sizeof sessions[0], wrong ? nullptr : sessions, 4, &count);
       }},
      {"warm_stats_get",
       [](Held& held, bool wrong) {
         warm_stats stats = WARM_STATS_INIT;
         return warm_stats_get(held.client, wrong ? nullptr : &stats);
       }},
      {"warm_release", [](Held& held, bool wrong) { return warm_release(held.client, wrong ? nullptr : &held.view); }},
      {"warm_close", [](Held& held, bool wrong) { return warm_close(wrong ? nullptr : std::exchange(held.client, nullptr)); }},
  };
  return all;
}

enum class DaemonThen : uint8_t { lives, dies, is_replaced };

struct Situation {
  const char* name;
  DaemonThen daemon = DaemonThen::lives;         // after the client was opened
  std::function<void(Held&)> client = nullptr;   // what its process does then
  bool wrong = false;                            // an argument
  bool inherited = false;                        // the client is a parent's
};

void no_descriptor_left(Held&) {
  const int lowest = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const rlimit none{.rlim_cur = static_cast<rlim_t>(lowest), .rlim_max = static_cast<rlim_t>(lowest)};
  ::close(lowest);
  ::setrlimit(RLIMIT_NOFILE, &none);
}

void fill(Held& held) {
  const std::vector<float> embedding(kDimensions, 2.0F);
  for (int i = 0;; ++i) {
    const std::string id = "full " + std::to_string(i);
    const warm_memory memory = memory_of(id, embedding);
    if (warm_put(held.client, &memory, nullptr) != WARM_OK) return;
  }
}

std::vector<Situation> situations() {
  using enum DaemonThen;
  return {
      {.name = "all is well"},
      {.name = "an argument is wrong", .wrong = true},
      {.name = "the store is full", .client = fill},
      {.name = "no daemon is there", .daemon = dies},
      {.name = "no daemon is there and an argument is wrong", .daemon = dies, .wrong = true},
      {.name = "another daemon is there", .daemon = is_replaced},
      {.name = "a child has inherited the client", .inherited = true},
      {.name = "a child has inherited the client, and no daemon is there", .daemon = dies, .inherited = true},
      {.name = "another daemon is there, and this process may open nothing", .daemon = is_replaced, .client = no_descriptor_left},
      {.name = "a child has inherited the client, and may open nothing", .client = no_descriptor_left, .inherited = true},
      {.name = "this process has closed all its descriptors", .client = [](Held&) { ::closefrom(3); }},
      {.name = "this process has closed all its descriptors, and no daemon is there",
       .daemon = dies,
       .client = [](Held&) { ::closefrom(3); }},
  };
}

// The client's deadline is short for what comes after; until then a busy machine may need more.
bool done_at_last(const char* what, const std::function<int()>& call) {
  const base::Deadline deadline = base::Deadline::after_ns(kPatienceNs);
  int code = WARM_OK;
  while ((code = call()) != WARM_OK) {
    if (!deadline.passed() && (code == WARM_E_UNKNOWN || code == WARM_E_BUSY || code == WARM_E_UNAVAILABLE)) continue;
    std::fprintf(stderr, "%s: %s: %s\n", what, warm_error_name(code), warm_last_error());
    return false;
  }
  return true;
}

bool open_and_hold(const Daemon& daemon, Held& held) {
  const std::string id = "held";
  const std::vector<float> embedding(kDimensions, 3.0F);
  const warm_memory memory = memory_of(id, embedding);
  return done_at_last("open", [&] { return daemon.try_open(&held.client, kTimeoutMs); }) &&
         done_at_last("put", [&] { return warm_put(held.client, &memory, nullptr); }) &&
         done_at_last("get", [&] { return warm_get(held.client, id.data(), id.size(), 0, &held.view); });
}

struct Board {
  Steps opened;
  Steps arranged;
};

// The code of each call in this situation; in a process of its own, which the situation may spoil.
int judge(const Daemon& daemon, const Situation& situation, const std::map<std::string, std::set<std::string>>& listed,
          Board& board) {
  Held held;
  const bool holds = open_and_hold(daemon, held);
  board.opened.advance();
  if (!holds) return 3;
  if (!board.arranged.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 4;
  const auto make_all = [&] {
    if (situation.client) situation.client(held);
    int failed = 0;
    for (const Call& call : calls()) {
      const int code = call.make(held, situation.wrong);
      if (listed.at(call.name).contains(warm_error_name(code))) continue;
      std::fprintf(stderr, "%s, when %s: %s (%s) is not listed\n", call.name, situation.name, warm_error_name(code),
                   warm_last_error());
      failed = 5;
    }
    return failed;
  };
  if (!situation.inherited) return make_all();
  const Process::End end = Process::fork(make_all).wait();
  return end.exited ? end.code : 6;
}

}  // namespace

TestSuite(codes, .timeout = 180);

Test(codes, every_call_of_the_header_is_called_here) {
  std::set<std::string> here{"warm_open"};  // the errors of opening have tests of their own
  for (const Call& call : calls()) here.insert(call.name);
  const auto listed = codes_of_the_header();
  cr_assert_geq(listed.size(), 12);
  for (const auto& [name, codes] : listed) {
    cr_expect(here.contains(name), "%s is not called", name.c_str());
    cr_expect(codes.contains("WARM_OK"), "%s: its list was not found", name.c_str());
  }
}

Test(codes, calls_return_only_what_the_header_lists) {
  const auto listed = codes_of_the_header();
  for (const Situation& situation : situations()) {
    StoreOptions options;
    options.dimensions = kDimensions;
    options.capacity = 64;
    options.failpoints = false;
    Daemon daemon(options);
    daemon.start();
    Shared<Board> board;
    Process process = Process::fork([&] { return judge(daemon, situation, listed, *board); });
    board->opened.await(1, "the client is opened");
    if (situation.daemon == DaemonThen::dies) daemon.kill();
    if (situation.daemon == DaemonThen::is_replaced) daemon.restart();
    board->arranged.advance();
    const Process::End end = process.wait();
    cr_expect(end == exit_code(0), "%s: %s", situation.name, text_of(end).c_str());
  }
}
