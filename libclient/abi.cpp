// The C door: the only extern "C". It checks what a stranger may get wrong, turns exceptions into codes and keeps the last
// sentence of each thread; what a call does stands elsewhere.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <optional>

#include "base/error.hpp"
#include "base/probe.hpp"
#include "layout/limits.hpp"
#include "libclient/chunk.hpp"
#include "libclient/client.hpp"
#include "libclient/order.hpp"
#include "libclient/reader.hpp"
#include "libclient/recall.hpp"
#include "libclient/tickets.hpp"
#include "libclient/view.hpp"
#include "libclient/walk.hpp"
#include "libclient/writer.hpp"
#include "warmtier/warmtier.h"

struct warm_client {
  std::unique_ptr<warmtier::libclient::Client> client;
};
struct warm_recall_scan {
  std::unique_ptr<warmtier::libclient::Scan> scan;
};

struct warm_cursor : warmtier::libclient::Cursor {
  using Cursor::Cursor;
};

namespace warmtier::libclient {
namespace {

constexpr size_t kTextBytes = 400;

// A fixed buffer: a sentence about no memory needs none.
struct LastError {
  const char* text;
  char buffer[kTextBytes];
};
thread_local constinit LastError last_error __attribute__((tls_model("initial-exec"))) = {.text = "", .buffer = {}};

int say(int code, const char* text) noexcept {
  last_error.text = text;
  return code;
}

int report(const base::Error& error) noexcept {
  const size_t n = std::min(error.text.size(), kTextBytes - 1);
  std::memcpy(last_error.buffer, error.text.data(), n);
  last_error.buffer[n] = 0;
  return say(error.code, last_error.buffer);
}

int report(const base::Status& status) noexcept { return status ? WARM_OK : report(status.error()); }

int report(const base::Result<Presence>& presence) noexcept {
  if (!presence) return report(presence.error());
  return *presence == Presence::found ? WARM_OK : say(WARM_E_NOT_FOUND, "no record has this id");
}

// `call` returns a code. Nothing of C++ leaves the library.
template <typename Call>
int guarded(Call&& call) noexcept {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return say(WARM_E_NOMEM, "out of memory");
  } catch (const std::exception&) {
    return say(WARM_E_SYSTEM, "the C++ runtime failed");
  }
}

template <typename T>
base::Status check_struct(const T* argument, const char* name, const char* initialiser) {
  if (argument == nullptr) return base::fail(WARM_E_INVALID, "%s is NULL", name);
  if (argument->struct_bytes == sizeof(T)) return {};
  return base::fail(WARM_E_INVALID, "%s->struct_bytes is %u, this library knows %zu: start with %s", name, argument->struct_bytes,
                    sizeof(T), initialiser);
}

// The same questions without an answer in words, for calls that are made a million times a second.
template <typename T>
bool is_sized(const T* argument) noexcept {
  return argument != nullptr && argument->struct_bytes == sizeof(T);
}
bool is_id(const void* id, size_t id_bytes) noexcept { return id != nullptr && id_bytes - 1 < layout::kIdBytesMax; }

base::Status check_client(const warm_client* client) {
  if (client == nullptr) return base::fail(WARM_E_INVALID, "client is NULL");
  return {};
}

base::Status check_flags(uint32_t flags) {
  if ((flags & ~WARM_DURABLE) != 0)
    return base::fail(WARM_E_INVALID, "flags has the unknown bits %#x; WARM_DURABLE is known", flags & ~WARM_DURABLE);
  if ((flags & WARM_DURABLE) != 0) return base::fail(WARM_E_UNSUPPORTED, "WARM_DURABLE: this store has no log");
  return {};
}

// What stands in a view that was released, or never filled, is zero.
bool maybe_held(const warm_view& view) noexcept { return view.internal[0] != 0; }
base::Status check_not_held(ClientState& state, const warm_view& view) {
  if (!maybe_held(view) || !holds_record(state, view)) return {};
  return base::fail(WARM_E_INVALID, "the view to be filled still holds id %s: release it first",
                    shown(view.id, view.id_bytes).c_str());
}

// Views that are to be filled, one behind the other.
base::Status check_views(ClientState& state, const warm_view* views, size_t count) {
  if (count != 0 && views == nullptr) return base::fail(WARM_E_INVALID, "ret_views is NULL");
  for (size_t i = 0; i < count; ++i) {
    if (views[i].struct_bytes == sizeof(warm_view)) {
      if (auto ok = check_not_held(state, views[i]); !ok) return ok;
      continue;
    }
    return base::fail(WARM_E_INVALID, "ret_views[%zu].struct_bytes is %u, this library knows %zu: start with WARM_VIEW_INIT", i,
                      views[i].struct_bytes, sizeof(warm_view));
  }
  return {};
}

base::Status check_step(const warm_cursor* cursor, size_t room, const size_t* ret_count) {
  if (cursor == nullptr) return base::fail(WARM_E_INVALID, "cursor is NULL");
  if (room == 0) return base::fail(WARM_E_INVALID, "there is room for 0 records; 1 is the least");
  if (ret_count == nullptr) return base::fail(WARM_E_INVALID, "ret_count is NULL");
  return {};
}

template <typename T>
int store_value(const base::Result<T>& value, T* ret_value) noexcept {
  if (!value) return report(value.error());
  *ret_value = *value;
  return WARM_OK;
}

template <typename T>
base::Status check_reserved(const T& argument, const char* name) {
  if (std::all_of(std::begin(argument.reserved), std::end(argument.reserved), [](auto r) { return r == 0; })) return {};
  return base::fail(WARM_E_INVALID, "reserved fields of %s are not zero", name);
}

constexpr uint32_t kReadFlags = WARM_VERIFY | WARM_COPY;

base::Status check_read_flags(uint32_t flags) {
  if ((flags & ~kReadFlags) == 0) return {};
  return base::fail(WARM_E_INVALID, "flags has the unknown bits %#x; WARM_VERIFY and WARM_COPY are known", flags & ~kReadFlags);
}

base::Status check_memory(const warm_memory& memory) {
  constexpr uint32_t kGivenKnown = WARM_GIVEN_CONTENT | WARM_GIVEN_CREATED | WARM_GIVEN_LAST_ACCESS;
  if (memory.reserved32 != 0 ||
      std::any_of(std::begin(memory.reserved), std::end(memory.reserved), [](auto r) { return r != 0; })) {
    return base::fail(WARM_E_INVALID, "reserved fields of memory are not zero");
  }
  if ((memory.given & ~kGivenKnown) != 0) {
    return base::fail(WARM_E_INVALID, "given has the unknown bits %#x; the WARM_GIVEN_ bits are %#x", memory.given & ~kGivenKnown,
                      kGivenKnown);
  }
  if (auto ok = check_id(memory.id, memory.id_bytes); !ok) return ok;
  if (memory.embedding == nullptr) return base::fail(WARM_E_INVALID, "embedding is NULL");
  if (memory.condition > WARM_IF_SEQUENCE)
    return base::fail(WARM_E_INVALID, "condition is %u; WARM_IF_ANY, WARM_IF_ABSENT and WARM_IF_SEQUENCE are 0 to 2",
                      memory.condition);
  if (memory.condition == WARM_IF_SEQUENCE && memory.if_sequence >= layout::kSequenceEnd) {
    return base::fail(WARM_E_INVALID, "if_sequence is %lu; sequences are below %lu", memory.if_sequence, layout::kSequenceEnd);
  }
  if ((memory.given & WARM_GIVEN_CONTENT) == 0) {
    if (memory.content != nullptr || memory.content_bytes != 0) {
      return base::fail(WARM_E_INVALID, "content or content_bytes is set, but WARM_GIVEN_CONTENT is not in given");
    }
  } else if (memory.content == nullptr && memory.content_bytes != 0) {
    return base::fail(WARM_E_INVALID, "content is NULL but content_bytes is %zu", memory.content_bytes);
  } else if (memory.content_bytes > layout::kContentBytesMax) {
    return base::fail(WARM_E_LIMIT, "content has %zu bytes, the limit is %lu", memory.content_bytes, layout::kContentBytesMax);
  }
  return check_flags(memory.flags);
}

base::Status check_whole_memory(const warm_memory& memory) {
  if (auto ok = check_struct(&memory, "memory", "WARM_MEMORY_INIT"); !ok) return ok;
  return check_memory(memory);
}

// An empty list needs no place.
base::Status check_list(const void* list, const char* name, size_t count, const warm_result* ret_results) {
  if (count != 0 && list == nullptr) return base::fail(WARM_E_INVALID, "%s is NULL", name);
  if (count != 0 && ret_results == nullptr) return base::fail(WARM_E_INVALID, "ret_results is NULL");
  return {};
}

base::Status check_remove(const void* id, size_t id_bytes, uint32_t condition, uint64_t if_sequence, uint32_t flags) {
  if (auto ok = check_id(id, id_bytes); !ok) return ok;
  if (condition != WARM_IF_ANY && condition != WARM_IF_SEQUENCE) {
    return base::fail(WARM_E_INVALID, "condition is %u; here it is WARM_IF_ANY or WARM_IF_SEQUENCE", condition);
  }
  if (condition == WARM_IF_SEQUENCE && if_sequence >= layout::kSequenceEnd) {
    return base::fail(WARM_E_INVALID, "if_sequence is %lu; sequences are below %lu", if_sequence, layout::kSequenceEnd);
  }
  return check_flags(flags);
}

base::Status check_update(const warm_update* update) {
  constexpr uint32_t kSetKnown =
      WARM_SET_CONFIDENCE | WARM_SET_ACTIVATION | WARM_SET_DECAY_RATE | WARM_SET_RECALL_COUNT | WARM_SET_LAST_ACCESS;
  if (auto ok = check_struct(update, "update", "WARM_UPDATE_INIT"); !ok) return ok;
  if (std::any_of(std::begin(update->reserved), std::end(update->reserved), [](auto r) { return r != 0; }))
    return base::fail(WARM_E_INVALID, "reserved fields of update are not zero");
  if ((update->set & ~kSetKnown) != 0)
    return base::fail(WARM_E_INVALID, "set has the unknown bits %#x; the WARM_SET_ bits are %#x", update->set & ~kSetKnown,
                      kSetKnown);
  if (update->set == 0) return base::fail(WARM_E_INVALID, "set is 0; an update sets something");
  // Its condition is one of a remove's.
  return check_remove(update->id, update->id_bytes, update->condition, update->if_sequence, update->flags);
}

uint64_t timeout_ns_of(const warm_options* options) noexcept {
  const uint32_t timeout_ms = options == nullptr ? 0 : options->timeout_ms;
  if (timeout_ms == UINT32_MAX) return Patience::kForEver;
  return uint64_t{timeout_ms == 0 ? WARM_TIMEOUT_MS_DEFAULT : timeout_ms} * base::kNsPerMs;
}

// `ret_value` may be NULL where the call says so.
template <typename T>
int store(const base::Result<T>& value, T* ret_value) noexcept {
  if (!value) return report(value.error());
  if (ret_value != nullptr) *ret_value = *value;
  return WARM_OK;
}

int store_if_there(const base::Result<std::optional<warm_result>>& result, warm_result* ret_result) noexcept {
  if (!result) return report(result.error());
  if (!result->has_value()) return say(WARM_E_BUSY, "there is no answer yet; the ticket is still open");
  *ret_result = **result;
  return WARM_OK;
}

base::Status check_recall(const warm_client* client, const warm_query* queries, size_t count) {
  if (auto ok = check_client(client); !ok) return ok;
  if (count == 0) return base::fail(WARM_E_INVALID, "count is 0; a recall has one query at least");
  for (size_t i = 0; i < count; ++i) {
    if (auto ok = check_struct(queries == nullptr ? nullptr : &queries[i], "query", "WARM_QUERY_INIT"); !ok) return ok;
  }
  return {};
}

base::Status check_recalled(const warm_hit* ret_hits, const size_t* ret_counts, const warm_recall_info* ret_info) {
  if (ret_hits == nullptr) return base::fail(WARM_E_INVALID, "ret_hits is NULL");
  if (ret_counts == nullptr) return base::fail(WARM_E_INVALID, "where the count of hits goes is NULL");
  if (ret_info == nullptr) return {};
  return check_struct(ret_info, "ret_info", "WARM_RECALL_INFO_INIT");
}

int recall(warm_client* client, const warm_query* queries, size_t count, warm_hit* ret_hits, size_t* ret_counts,
           warm_recall_info* ret_info) {
  if (auto ok = check_recall(client, queries, count); !ok) return report(ok);
  if (auto ok = check_recalled(ret_hits, ret_counts, ret_info); !ok) return report(ok);
  WARM_PROBE(recall_begin, count);
  auto scan = Scan::open(client->client->state(), queries, count);
  const int code = scan ? report((*scan)->finish(ret_hits, ret_counts, ret_info)) : report(scan.error());
  WARM_PROBE(recall_end, count, *ret_counts, code);
  return code;
}

}  // namespace
}  // namespace warmtier::libclient

namespace base = warmtier::base;
using namespace warmtier::libclient;  // NOLINT: the door stands outside of the house

extern "C" {

int warm_open(const warm_options* options, warm_client** ret_client) noexcept {
  return guarded([&] {
    if (ret_client == nullptr) return say(WARM_E_INVALID, "ret_client is NULL");
    if (options != nullptr) {
      if (auto ok = check_struct(options, "options", "WARM_OPTIONS_INIT"); !ok) return report(ok);
      if (std::any_of(std::begin(options->reserved), std::end(options->reserved), [](auto r) { return r != 0; })) {
        return say(WARM_E_INVALID, "reserved fields of options are not zero");
      }
    }
    auto handle = std::make_unique<warm_client>();
    auto client = Client::open(options == nullptr ? nullptr : options->socket, timeout_ns_of(options));
    if (!client) return report(client.error());
    handle->client = std::move(*client);
    *ret_client = handle.release();
    return WARM_OK;
  });
}

int warm_close(warm_client* client) noexcept {
  return guarded([&] {
    if (client == nullptr) return WARM_OK;
    const auto closed = client->client->close();
    if (closed) delete client;
    return report(closed);
  });
}

int warm_info_get(warm_client* client, warm_info* ret_info) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_struct(ret_info, "ret_info", "WARM_INFO_INIT"); !ok) return report(ok);
    return report(read_info(client->client->state(), *ret_info));
  });
}

int warm_put(warm_client* client, const warm_memory* memory, uint64_t* ret_sequence) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_struct(memory, "memory", "WARM_MEMORY_INIT"); !ok) return report(ok);
    if (auto ok = check_memory(*memory); !ok) return report(ok);
    WARM_PROBE(put_begin, memory->id, memory->id_bytes, memory->given, memory->content_bytes);
    const int code = store(put(client->client->state(), *memory), ret_sequence);
    WARM_PROBE(put_end, memory->id, memory->id_bytes, memory->given, memory->content_bytes, code);
    return code;
  });
}

int warm_remove(warm_client* client, const void* id, size_t id_bytes, uint32_t condition, uint64_t if_sequence, uint32_t flags,
                uint64_t* ret_sequence) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_remove(id, id_bytes, condition, if_sequence, flags); !ok) return report(ok);
    WARM_PROBE(remove_begin, id, id_bytes);
    const int code = store(remove(client->client->state(), id, id_bytes, condition, if_sequence), ret_sequence);
    WARM_PROBE(remove_end, id, id_bytes, code);
    return code;
  });
}

int warm_update_scalars(warm_client* client, const warm_update* update, uint64_t* ret_sequence) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_update(update); !ok) return report(ok);
    return store(update_scalars(client->client->state(), *update), ret_sequence);
  });
}

int warm_update_submit(warm_client* client, const warm_update* update, warm_ticket* ret_ticket) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_update(update); !ok) return report(ok);
    if (ret_ticket == nullptr) return say(WARM_E_INVALID, "ret_ticket is NULL");
    return store(hand_in_update(client->client->state(), *update), ret_ticket);
  });
}

int warm_clear(warm_client* client, uint64_t* ret_removed) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    return store(clear(client->client->state()), ret_removed);
  });
}

int warm_touch(warm_client* client, const warm_id* ids, size_t count, size_t* ret_taken) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (count != 0 && ids == nullptr) return say(WARM_E_INVALID, "ids is NULL");
    for (size_t i = 0; i < count; ++i) {
      if (auto ok = check_id(ids[i].data, ids[i].bytes); !ok) return report(ok);
    }
    return store(touch(client->client->state(), ids, count), ret_taken);
  });
}

int warm_put_many(warm_client* client, const warm_memory* memories, size_t count, warm_result* ret_results) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_list(memories, "memories", count, ret_results); !ok) return report(ok);
    return report(put_many(client->client->state(), memories, count, check_whole_memory, ret_results));
  });
}

int warm_remove_many(warm_client* client, const warm_id* ids, size_t count, uint32_t flags, warm_result* ret_results) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_list(ids, "ids", count, ret_results); !ok) return report(ok);
    if (auto ok = check_flags(flags); !ok) return report(ok);
    const auto check = [](const warm_id& id) { return check_id(id.data, id.bytes); };
    return report(remove_many(client->client->state(), ids, count, check, ret_results));
  });
}

int warm_put_submit(warm_client* client, const warm_memory* memory, warm_ticket* ret_ticket) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_struct(memory, "memory", "WARM_MEMORY_INIT"); !ok) return report(ok);
    if (auto ok = check_memory(*memory); !ok) return report(ok);
    if (ret_ticket == nullptr) return say(WARM_E_INVALID, "ret_ticket is NULL");
    return store(hand_in_put(client->client->state(), *memory), ret_ticket);
  });
}

int warm_remove_submit(warm_client* client, const void* id, size_t id_bytes, uint32_t condition, uint64_t if_sequence,
                       uint32_t flags, warm_ticket* ret_ticket) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_remove(id, id_bytes, condition, if_sequence, flags); !ok) return report(ok);
    if (ret_ticket == nullptr) return say(WARM_E_INVALID, "ret_ticket is NULL");
    return store(hand_in_remove(client->client->state(), id, id_bytes, condition, if_sequence), ret_ticket);
  });
}

int warm_ticket_wait(warm_client* client, warm_ticket ticket, uint32_t timeout_ms, warm_result* ret_result) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (ret_result == nullptr) return say(WARM_E_INVALID, "ret_result is NULL");
    Patience patience(timeout_ms == UINT32_MAX ? Patience::kForEver : timeout_ms * base::kNsPerMs);
    return store_if_there(client->client->state().tickets().wait(ticket, patience), ret_result);
  });
}

int warm_ticket_poll(warm_client* client, warm_ticket ticket, warm_result* ret_result) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (ret_result == nullptr) return say(WARM_E_INVALID, "ret_result is NULL");
    return store_if_there(client->client->state().tickets().poll(ticket), ret_result);
  });
}

int warm_completions(warm_client* client, warm_completion* ret_completions, size_t max, size_t* ret_count) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (ret_count == nullptr) return say(WARM_E_INVALID, "ret_count is NULL");
    if (ret_completions == nullptr || max == 0) return say(WARM_E_INVALID, "there is no room for completions");
    return store(client->client->state().tickets().completions({ret_completions, max}), ret_count);
  });
}

int warm_completion_fd(warm_client* client, int* ret_fd) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (ret_fd == nullptr) return say(WARM_E_INVALID, "ret_fd is NULL");
    return store(client->client->state().tickets().completion_fd(), ret_fd);
  });
}

int warm_get(warm_client* client, const void* id, size_t id_bytes, uint32_t flags, warm_view* ret_view) noexcept {
  return guarded([&] {
    if (client == nullptr || !is_id(id, id_bytes) || !is_sized(ret_view) || (flags & ~kReadFlags) != 0 || maybe_held(*ret_view))
        [[unlikely]] {
      if (auto ok = check_client(client); !ok) return report(ok);
      if (auto ok = check_id(id, id_bytes); !ok) return report(ok);
      if (auto ok = check_read_flags(flags); !ok) return report(ok);
      if (auto ok = check_struct(ret_view, "ret_view", "WARM_VIEW_INIT"); !ok) return report(ok);
      if (auto ok = check_not_held(client->client->state(), *ret_view); !ok) return report(ok);
    }
    WARM_PROBE(get_begin, id, id_bytes);
    const int code = report(get(client->client->state(), id, id_bytes, flags, *ret_view));
    WARM_PROBE(get_end, id, id_bytes, ret_view->content_state, ret_view->content_bytes, code);
    return code;
  });
}

int warm_get_many(warm_client* client, const warm_id* ids, size_t count, uint32_t flags, warm_view* ret_views,
                  int32_t* ret_codes) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_read_flags(flags); !ok) return report(ok);
    if (count != 0 && ids == nullptr) return say(WARM_E_INVALID, "ids is NULL");
    if (count != 0 && ret_codes == nullptr) return say(WARM_E_INVALID, "ret_codes is NULL");
    if (auto ok = check_views(client->client->state(), ret_views, count); !ok) return report(ok);
    std::optional<base::Error> error;
    get_many(client->client->state(), ids, count, flags, ret_views, ret_codes, error);
    if (error) report(*error);
    return WARM_OK;
  });
}

int warm_get_copy(warm_client* client, const void* id, size_t id_bytes, uint32_t flags, warm_copy* copy) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_id(id, id_bytes); !ok) return report(ok);
    if (auto ok = check_read_flags(flags); !ok) return report(ok);
    if (auto ok = check_struct(copy, "copy", "WARM_COPY_INIT"); !ok) return report(ok);
    if (auto ok = check_reserved(*copy, "copy"); !ok) return report(ok);
    return report(get_copy(client->client->state(), id, id_bytes, flags, *copy));
  });
}

int warm_scalars_get(warm_client* client, const void* id, size_t id_bytes, warm_scalars* ret_scalars) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_id(id, id_bytes); !ok) return report(ok);
    if (auto ok = check_struct(ret_scalars, "ret_scalars", "WARM_SCALARS_INIT"); !ok) return report(ok);
    return report(get_scalars(client->client->state(), id, id_bytes, *ret_scalars));
  });
}

int warm_cursor_open(warm_client* client, const warm_filter* filter, warm_cursor** ret_cursor) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (ret_cursor == nullptr) return say(WARM_E_INVALID, "ret_cursor is NULL");
    auto made = Filter::make(filter);
    if (!made) return report(made.error());
    *ret_cursor = std::make_unique<warm_cursor>(*client->client, client->client->state(), std::move(*made)).release();
    return WARM_OK;
  });
}

int warm_cursor_next(warm_cursor* cursor, uint32_t flags, warm_view* ret_views, size_t views, size_t* ret_count) noexcept {
  return guarded([&] {
    if (auto ok = check_step(cursor, views, ret_count); !ok) return report(ok);
    if (auto ok = check_read_flags(flags); !ok) return report(ok);
    if (auto ok = check_views(cursor->client_state(), ret_views, views); !ok) return report(ok);
    return store_value(cursor->next(flags, ret_views, views), ret_count);
  });
}

int warm_cursor_next_items(warm_cursor* cursor, uint32_t item_bytes, warm_item* ret_items, size_t items,
                           size_t* ret_count) noexcept {
  return guarded([&] {
    if (auto ok = check_step(cursor, items, ret_count); !ok) return report(ok);
    if (ret_items == nullptr) return say(WARM_E_INVALID, "ret_items is NULL");
    if (item_bytes != sizeof(warm_item)) {
      return report(base::Status(base::fail(WARM_E_INVALID, "item_bytes is %u, this library knows %zu: sizeof(warm_item)",
                                            item_bytes, sizeof(warm_item))));
    }
    return store_value(cursor->next_items(ret_items, items), ret_count);
  });
}

int warm_cursor_close(warm_cursor* cursor) noexcept {
  return guarded([&] {
    delete cursor;
    return WARM_OK;
  });
}

int warm_count(warm_client* client, const warm_filter* filter, uint64_t* ret_count) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (ret_count == nullptr) return say(WARM_E_INVALID, "ret_count is NULL");
    auto made = Filter::make(filter);
    if (!made) return report(made.error());
    return store_value(count_records(*client->client, std::move(*made)), ret_count);
  });
}

int warm_chunk_count(warm_client* client, uint64_t* ret_chunks) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (ret_chunks == nullptr) return say(WARM_E_INVALID, "ret_chunks is NULL");
    return store_value(count_chunks(client->client->state()), ret_chunks);
  });
}

int warm_chunk_open(warm_client* client, uint64_t chunk, warm_chunk* ret_chunk) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_struct(ret_chunk, "ret_chunk", "WARM_CHUNK_INIT"); !ok) return report(ok);
    const auto presence = open_chunk(client->client->state(), chunk, *ret_chunk);
    if (!presence || *presence == Presence::found) return report(presence);
    const base::Status absent =
        base::fail(WARM_E_NOT_FOUND, "the store has no chunk %lu; warm_chunk_count says how many it has", chunk);
    return report(absent);
  });
}

int warm_chunk_check(warm_client* client, warm_chunk* chunk) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_struct(chunk, "chunk", "WARM_CHUNK_INIT"); !ok) return report(ok);
    return report(check_chunk(client->client->state(), *chunk));
  });
}

int warm_chunk_view(warm_client* client, const warm_chunk* chunk, uint32_t row, warm_view* ret_view) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_struct(chunk, "chunk", "WARM_CHUNK_INIT"); !ok) return report(ok);
    if (auto ok = check_struct(ret_view, "ret_view", "WARM_VIEW_INIT"); !ok) return report(ok);
    if (auto ok = check_not_held(client->client->state(), *ret_view); !ok) return report(ok);
    const auto presence = view_in_chunk(client->client->state(), *chunk, row, *ret_view);
    return presence && *presence == Presence::absent ? say(WARM_E_NOT_FOUND, "the row does not hold that record any more")
                                                     : report(presence);
  });
}

int warm_chunk_close(warm_client* client, warm_chunk* chunk) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_struct(chunk, "chunk", "WARM_CHUNK_INIT"); !ok) return report(ok);
    return report(close_chunk(client->client->state(), *chunk));
  });
}

int warm_release(warm_client* client, warm_view* view) noexcept {
  return guarded([&] {
    if (client == nullptr || !is_sized(view)) [[unlikely]] {
      if (auto ok = check_client(client); !ok) return report(ok);
      return report(check_struct(view, "view", "WARM_VIEW_INIT"));
    }
    return release(client->client->state(), *view) ? WARM_OK : say(WARM_E_INVALID, "the view was made by another client");
  });
}

int warm_view_check(warm_client* client, const warm_view* view, uint32_t* ret_state) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_struct(view, "view", "WARM_VIEW_INIT"); !ok) return report(ok);
    if (ret_state == nullptr) return say(WARM_E_INVALID, "ret_state is NULL");
    const auto state = check_view(client->client->state(), *view);
    if (!state) return report(state.error());
    *ret_state = *state;
    return WARM_OK;
  });
}

int warm_exists(warm_client* client, const void* id, size_t id_bytes) noexcept {
  return guarded([&] {
    if (client == nullptr || !is_id(id, id_bytes)) [[unlikely]] {
      if (auto ok = check_client(client); !ok) return report(ok);
      return report(check_id(id, id_bytes));
    }
    return report(exists(client->client->state(), id, id_bytes));
  });
}

int warm_recall(warm_client* client, const warm_query* query, warm_hit* ret_hits, size_t* ret_count,
                warm_recall_info* ret_info) noexcept {
  return guarded([&] { return recall(client, query, 1, ret_hits, ret_count, ret_info); });
}

int warm_recall_many(warm_client* client, const warm_query* queries, size_t count, warm_hit* ret_hits, size_t* ret_counts,
                     warm_recall_info* ret_info) noexcept {
  return guarded([&] { return recall(client, queries, count, ret_hits, ret_counts, ret_info); });
}

int warm_hits_release(warm_client* client, warm_hit* hits, size_t count) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (hits == nullptr && count != 0) return say(WARM_E_INVALID, "hits is NULL");
    int code = WARM_OK;
    for (size_t i = 0; i < count; ++i) {
      if (const int released = warm_release(client, &hits[i].view); released != WARM_OK) code = released;
    }
    return code;
  });
}

int warm_recall_open(warm_client* client, const warm_query* queries, size_t count, warm_recall_scan** ret_scan) noexcept {
  return guarded([&] {
    if (auto ok = check_recall(client, queries, count); !ok) return report(ok);
    if (ret_scan == nullptr) return say(WARM_E_INVALID, "ret_scan is NULL");
    auto handle = std::make_unique<warm_recall_scan>();
    auto scan = Scan::open(client->client->state(), queries, count);
    if (!scan) return report(scan.error());
    handle->scan = std::move(*scan);
    *ret_scan = handle.release();
    return WARM_OK;
  });
}

int warm_recall_work(warm_recall_scan* scan) noexcept {
  return guarded([&] {
    if (scan == nullptr) return say(WARM_E_INVALID, "scan is NULL");
    return report(scan->scan->work());
  });
}

int warm_recall_close(warm_recall_scan* scan, warm_hit* ret_hits, size_t* ret_counts, warm_recall_info* ret_info) noexcept {
  return guarded([&] {
    if (scan == nullptr) return say(WARM_E_INVALID, "scan is NULL");
    if (ret_hits != nullptr) {
      if (auto ok = check_recalled(ret_hits, ret_counts, ret_info); !ok) return report(ok);
    }
    const std::unique_ptr<warm_recall_scan> ended(scan);
    return ret_hits == nullptr ? WARM_OK : report(ended->scan->finish(ret_hits, ret_counts, ret_info));
  });
}

int warm_stats_get(warm_client* client, warm_stats* ret_stats) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (auto ok = check_struct(ret_stats, "ret_stats", "WARM_STATS_INIT"); !ok) return report(ok);
    return report(read_stats(client->client->state(), *ret_stats));
  });
}

int warm_sequence_get(warm_client* client, uint64_t* ret_sequence) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (ret_sequence == nullptr) return say(WARM_E_INVALID, "ret_sequence is NULL");
    return store(last_sequence(client->client->state()), ret_sequence);
  });
}

int warm_wait(warm_client* client, uint64_t after, uint32_t timeout_ms, uint64_t* ret_sequence) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    const uint64_t timeout_ns = timeout_ms == UINT32_MAX ? Patience::kForEver : uint64_t{timeout_ms} * base::kNsPerMs;
    return store(wait_for_change(client->client->state(), after, timeout_ns), ret_sequence);
  });
}

int warm_changes(warm_client* client, uint64_t after, uint32_t change_bytes, warm_change* ret_changes, size_t changes, void* ids,
                 size_t ids_capacity, size_t* ret_count) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (change_bytes != sizeof(warm_change)) {
      return report(
          base::fail(WARM_E_INVALID, "change_bytes is %u, this library knows %zu", change_bytes, sizeof(warm_change)).error());
    }
    if (ret_changes == nullptr || changes == 0) return say(WARM_E_INVALID, "there is no room for a change");
    if (ids == nullptr || ids_capacity < WARM_ID_BYTES_MAX) {
      return report(
          base::fail(WARM_E_INVALID, "ids has room for %zu bytes, %u are needed for one", ids_capacity, WARM_ID_BYTES_MAX)
              .error());
    }
    if (ret_count == nullptr) return say(WARM_E_INVALID, "ret_count is NULL");
    return store(
        changes_since(
            client->client->state(), after,
            {.changes = ret_changes, .changes_max = changes, .ids = static_cast<std::byte*>(ids), .id_bytes_max = ids_capacity}),
        ret_count);
  });
}

int warm_checkpoint(warm_client* client, uint64_t* ret_sequence) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    WARM_PROBE(checkpoint_begin);
    const int code = store(checkpoint(client->client->state()), ret_sequence);
    WARM_PROBE(checkpoint_end, code);
    return code;
  });
}

int warm_sessions(warm_client* client, uint32_t session_bytes, warm_session* ret_sessions, size_t sessions_max,
                  size_t* ret_count) noexcept {
  return guarded([&] {
    if (auto ok = check_client(client); !ok) return report(ok);
    if (session_bytes != sizeof(warm_session)) {
      return report(
          base::fail(WARM_E_INVALID, "session_bytes is %u, this library knows %zu", session_bytes, sizeof(warm_session)).error());
    }
    if (ret_sessions == nullptr && sessions_max != 0) return say(WARM_E_INVALID, "ret_sessions is NULL");
    if (ret_count == nullptr) return say(WARM_E_INVALID, "ret_count is NULL");
    return store(sessions(client->client->state(), ret_sessions, sessions_max), ret_count);
  });
}

const char* warm_error_name(int code) noexcept { return base::code_name(code); }

const char* warm_strerror(int code) noexcept { return base::code_text(code); }

const char* warm_last_error(void) noexcept { return last_error.text; }

const char* warm_version(void) noexcept { return WARMTIER_VERSION; }

}  // extern "C"
