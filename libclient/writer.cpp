#include "libclient/writer.hpp"

#include <cmath>

#include "layout/control.hpp"
#include "layout/validate.hpp"
#include "libclient/batch.hpp"
#include "libclient/reader.hpp"
#include "libclient/requests.hpp"
#include "libclient/tickets.hpp"

namespace warmtier::libclient {
namespace {

base::Status check_number(const char* name, float value) {
  if (std::isfinite(value)) return {};
  return base::fail(WARM_E_INVALID, "%s is %s; it must be finite", name, std::isnan(value) ? "NaN" : "infinite");
}

base::Status check_values(const warm_memory& memory, uint32_t dimensions) {
  if (memory.dimensions != dimensions) {
    return base::fail(WARM_E_INVALID, "the embedding has %u dimensions, the store's have %u", memory.dimensions, dimensions);
  }
  if (auto ok = check_number("confidence", memory.confidence); !ok) return ok;
  if (auto ok = check_number("activation", memory.activation); !ok) return ok;
  if (auto ok = check_number("decay_rate", memory.decay_rate); !ok) return ok;
  return {};
}

base::Status check_embedding(const warm_memory& memory) {
  if (layout::all_finite(memory.embedding, memory.dimensions)) return {};
  uint32_t i = 0;
  while (i + 1 < memory.dimensions && std::isfinite(memory.embedding[i])) ++i;
  return base::fail(WARM_E_INVALID, "the embedding's value %u is %s; it must be finite", i,
                    std::isnan(memory.embedding[i]) ? "NaN" : "infinite");
}

base::Result<OutgoingRequest> request_of_put(const warm_memory& memory, const StoreLimits& limits) {
  const bool with_content = (memory.given & WARM_GIVEN_CONTENT) != 0;
  const uint64_t content_bytes = with_content ? memory.content_bytes : 0;
  if (auto ok = check_values(memory, limits.dimensions); !ok) return base::pass(std::move(ok));
  if (content_bytes > limits.content_bytes_max) {
    return base::fail(WARM_E_LIMIT, "content has %lu bytes, the store's limit is %lu", content_bytes, limits.content_bytes_max);
  }
  OutgoingRequest request;
  request.header.operation = static_cast<uint16_t>(layout::Operation::put);
  request.header.condition = static_cast<uint16_t>(memory.condition);
  request.header.given = memory.given;
  request.header.id_bytes = static_cast<uint32_t>(memory.id_bytes);
  request.header.dimensions = memory.dimensions;
  request.header.content_bytes = content_bytes;
  request.header.if_sequence = memory.condition == WARM_IF_SEQUENCE ? memory.if_sequence : 0;
  request.header.created_ns = (memory.given & WARM_GIVEN_CREATED) != 0 ? memory.created_ns : 0;
  request.header.last_access_ns = (memory.given & WARM_GIVEN_LAST_ACCESS) != 0 ? memory.last_access_ns : 0;
  request.header.quad = {.confidence = memory.confidence,
                         .activation = memory.activation,
                         .decay_rate = memory.decay_rate,
                         .recall_count = memory.recall_count};
  request.embedding = memory.embedding;
  request.id = memory.id;
  request.content = memory.content;
  return request;
}

OutgoingRequest request_of_remove(const void* id, size_t id_bytes, uint32_t condition, uint64_t if_sequence) {
  OutgoingRequest request;
  request.header.operation = static_cast<uint16_t>(layout::Operation::remove);
  request.header.condition = static_cast<uint16_t>(condition);
  request.header.id_bytes = static_cast<uint32_t>(id_bytes);
  request.header.if_sequence = condition == WARM_IF_SEQUENCE ? if_sequence : 0;
  request.id = id;
  return request;
}

base::Result<OutgoingRequest> request_of_update(const warm_update& update) {
  const auto set = [&](uint32_t bit) { return (update.set & bit) != 0; };
  OutgoingRequest request;
  layout::RequestHeader& header = request.header;
  header.operation = static_cast<uint16_t>(layout::Operation::update);
  header.condition = static_cast<uint16_t>(update.condition);
  header.given = update.set;
  header.id_bytes = static_cast<uint32_t>(update.id_bytes);
  header.if_sequence = update.condition == WARM_IF_SEQUENCE ? update.if_sequence : 0;
  header.quad = {.confidence = set(WARM_SET_CONFIDENCE) ? update.confidence : 0,
                 .activation = set(WARM_SET_ACTIVATION) ? update.activation : 0,
                 .decay_rate = set(WARM_SET_DECAY_RATE) ? update.decay_rate : 0,
                 .recall_count = set(WARM_SET_RECALL_COUNT) ? update.recall_count : 0};
  header.last_access_ns = set(WARM_SET_LAST_ACCESS) ? update.last_access_ns : 0;
  if (auto ok = check_number("confidence", header.quad.confidence); !ok) return base::pass(std::move(ok));
  if (auto ok = check_number("activation", header.quad.activation); !ok) return base::pass(std::move(ok));
  if (auto ok = check_number("decay_rate", header.quad.decay_rate); !ok) return base::pass(std::move(ok));
  request.id = update.id;
  return request;
}

// What a request is made of, held against the store that it is for.
template <typename Make>
base::Result<OutgoingRequest> make_request(ClientState& state, ThreadRecord& me, Patience& patience, Make&& make,
                                           layout::Access access = layout::Access::write) {
  auto limits = limits_of(state, me, patience);
  if (!limits) return base::pass(std::move(limits));
  auto request = make(*limits);
  if (!request) return request;
  if (auto ok = check_access(*limits, access); !ok) return base::pass(std::move(ok));
  return request;
}

template <typename Make>
base::Result<Answer> carry_out(ClientState& state, Make&& make, layout::Access access = layout::Access::write) {
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  auto outgoing = make_request(state, me, patience, make, access);
  if (!outgoing) return base::pass(std::move(outgoing));
  auto request = submit(state, me, *outgoing, patience);
  if (!request) return base::pass(std::move(request));
  auto answer = await(state, me, *request, patience);
  const Link& link = request->link();
  request->give_back();
  state.let_go_now_and_then(me);
  state.part_if_former(link);
  if (!answer) return answer;
  if (auto sequence = outcome(*answer, outgoing->id, outgoing->header.id_bytes); !sequence)
    return base::pass(std::move(sequence));
  return answer;
}
base::Result<uint64_t> sequence_of(base::Result<Answer> answer) {
  if (!answer) return base::pass(std::move(answer));
  return answer->sequence;
}

template <typename Make>
base::Result<warm_ticket> hand_in(ClientState& state, Make&& make) {
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  auto outgoing = make_request(state, me, patience, make);
  if (!outgoing) return base::pass(std::move(outgoing));
  return state.tickets().hand_in(me, *outgoing, patience);
}

}  // namespace

base::Result<uint64_t> put(ClientState& state, const warm_memory& memory) {
  bool handed_in = false;
  auto sequence = sequence_of(carry_out(state, [&](const StoreLimits& limits) {
    auto request = request_of_put(memory, limits);
    handed_in = request.has_value();
    return request;
  }));
  // The daemon looks at each value of the embedding, for it trusts nobody: once is enough. Who was refused is told which one it
  // was.
  if (!sequence && handed_in && sequence.error().code == WARM_E_INVALID) {
    if (auto ok = check_embedding(memory); !ok) return base::pass(std::move(ok));
  }
  return sequence;
}

base::Result<uint64_t> remove(ClientState& state, const void* id, size_t id_bytes, uint32_t condition, uint64_t if_sequence) {
  return sequence_of(carry_out(state, [&](const StoreLimits&) -> base::Result<OutgoingRequest> {
    return request_of_remove(id, id_bytes, condition, if_sequence);
  }));
}

base::Result<uint64_t> update_scalars(ClientState& state, const warm_update& update) {
  return sequence_of(carry_out(state, [&](const StoreLimits&) { return request_of_update(update); }));
}

base::Result<uint64_t> clear(ClientState& state) {
  const auto request = [](const StoreLimits&) -> base::Result<OutgoingRequest> {
    OutgoingRequest everything;
    everything.header.operation = static_cast<uint16_t>(layout::Operation::clear);
    everything.id = "";
    return everything;
  };
  auto answer = carry_out(state, request, layout::Access::admin);
  if (!answer) return base::pass(std::move(answer));
  return answer->limit;
}

base::Result<size_t> touch(ClientState& state, const warm_id* ids, size_t count) {
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  auto limits = limits_of(state, me, patience);
  if (!limits) return base::pass(std::move(limits));
  if (auto ok = check_access(*limits, layout::Access::write); !ok) return base::pass(std::move(ok));
  size_t taken = 0;
  bool any = false;
  for (size_t i = 0; i < count; ++i) {
    // One that cannot be found, for whatever reason, is not touched.
    const auto touched = touch_record(state, ids[i].data, ids[i].bytes);
    if (!touched || *touched == Touched::absent) continue;
    any = true;
    if (*touched == Touched::yes) ++taken;
  }
  if (!any) return taken;
  state.enter(me);
  ring(*state.attachment.load(std::memory_order_acquire));
  ClientState::leave(me);
  return taken;
}

base::Status put_many(ClientState& state, const warm_memory* memories, size_t count, base::Status (*check)(const warm_memory&),
                      warm_result* ret_results) {
  return carry_out_many(
      state, count,
      [=](size_t i, const StoreLimits& limits) -> base::Result<OutgoingRequest> {
        if (auto ok = check(memories[i]); !ok) return base::pass(std::move(ok));
        return request_of_put(memories[i], limits);
      },
      ret_results);
}

base::Status remove_many(ClientState& state, const warm_id* ids, size_t count, base::Status (*check)(const warm_id&),
                         warm_result* ret_results) {
  return carry_out_many(
      state, count,
      [=](size_t i, const StoreLimits&) -> base::Result<OutgoingRequest> {
        if (auto ok = check(ids[i]); !ok) return base::pass(std::move(ok));
        return request_of_remove(ids[i].data, ids[i].bytes, WARM_IF_ANY, 0);
      },
      ret_results);
}

base::Result<warm_ticket> hand_in_put(ClientState& state, const warm_memory& memory) {
  return hand_in(state, [&](const StoreLimits& limits) {
    auto request = request_of_put(memory, limits);
    // Here and not from the daemon: who harvests the answer may not have the embedding any more.
    if (request) {
      if (auto ok = check_embedding(memory); !ok) return base::Result<OutgoingRequest>(base::pass(std::move(ok)));
    }
    return request;
  });
}

base::Result<warm_ticket> hand_in_update(ClientState& state, const warm_update& update) {
  return hand_in(state, [&](const StoreLimits&) { return request_of_update(update); });
}

base::Result<warm_ticket> hand_in_remove(ClientState& state, const void* id, size_t id_bytes, uint32_t condition,
                                         uint64_t if_sequence) {
  return hand_in(state, [&](const StoreLimits&) -> base::Result<OutgoingRequest> {
    return request_of_remove(id, id_bytes, condition, if_sequence);
  });
}

}  // namespace warmtier::libclient
