#include "tests/linear/checker.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "warmtier/warmtier.h"

namespace warmtier::tests::linear {
namespace {

constexpr size_t kConfigurationsMax = 1'000'000;
constexpr unsigned kOpenMax = 64;
constexpr size_t kShownBefore = 24;  // operations that are shown with a violation

struct Record {
  uint32_t put = 0;  // 0: there is none
  uint32_t number = 0;
  bool operator==(const Record&) const = default;
};

struct Configuration {
  Record record;
  uint64_t effective = 0;  // of the open operations, those that have taken effect
  bool operator==(const Configuration&) const = default;
};

struct HashOf {
  size_t operator()(const Configuration& configuration) const noexcept {
    const uint64_t record = uint64_t{configuration.record.put} << 32 | configuration.record.number;
    return (record * 0x9E37'79B9'7F4A'7C15ULL) ^ (configuration.effective * 0xC2B2'AE3D'27D4'EB4FULL);
  }
};

bool is_read(const Operation& operation) { return operation.kind >= Kind::get; }
bool is_unknown(const Operation& operation) { return operation.end_ns == 0 || operation.code == WARM_E_UNKNOWN; }
// Certainly not carried out: it says nothing, and what it would have stored may be seen by nobody.
bool is_nothing(const Operation& operation) {
  if (is_unknown(operation)) return is_read(operation);
  return operation.code == WARM_E_BUSY || operation.code == WARM_E_UNAVAILABLE || operation.code == WARM_E_FULL;
}

// The code that a record answers with, and what becomes of it.
std::pair<int, Record> effect(const Operation& operation, const Record& record) {
  const bool present = record.put != 0;
  if (operation.condition == Condition::absent && present) return {WARM_E_EXISTS, record};
  if (operation.condition == Condition::record && record.put != operation.record) return {WARM_E_CHANGED, record};
  switch (operation.kind) {
    case Kind::put: return {WARM_OK, {.put = operation.number, .number = operation.number}};
    case Kind::remove: return {present ? WARM_OK : WARM_E_NOT_FOUND, {}};
    case Kind::update:
      return present ? std::pair{WARM_OK, Record{.put = record.put, .number = operation.number}}
                     : std::pair{WARM_E_NOT_FOUND, record};
    default: return {present ? WARM_OK : WARM_E_NOT_FOUND, record};
  }
}

// What the record is after it, if it could have been answered so.
std::optional<Record> after(const Operation& operation, const Record& record) {
  const auto [code, next] = effect(operation, record);
  if (is_unknown(operation)) return code == WARM_OK ? std::optional(next) : std::nullopt;
  const bool nothing_there = record.put == 0 && code == WARM_E_CHANGED && operation.code == WARM_E_NOT_FOUND;
  if (code != operation.code && !nothing_there) return std::nullopt;
  if (code == WARM_OK && operation.kind == Kind::get && (operation.record != record.put || operation.seen != record.number))
    return std::nullopt;
  if (code == WARM_OK && operation.kind == Kind::scalars && operation.seen != record.number) return std::nullopt;
  return next;
}

class Search {
 public:
  explicit Search(std::span<const Operation* const> operations) : operations_(operations) {}

  std::string run() {
    struct Event {
      uint64_t at_ns;
      bool is_end;
      size_t operation;
    };
    std::vector<Event> events;
    for (size_t i = 0; i < operations_.size(); ++i) {
      events.push_back({operations_[i]->begin_ns, false, i});
      if (!is_unknown(*operations_[i])) events.push_back({operations_[i]->end_ns, true, i});
    }
    // At one time, calls before answers: nothing is held against an order that the clock did not see.
    std::ranges::sort(events,
                      [](const Event& a, const Event& b) { return std::pair(a.at_ns, a.is_end) < std::pair(b.at_ns, b.is_end); });
    configurations_.insert(Configuration{});
    std::vector<unsigned> places(operations_.size());
    for (const Event& event : events) {
      if (!event.is_end) {
        const unsigned place = static_cast<unsigned>(std::countr_one(taken_));
        if (place == kOpenMax) return "more than 64 operations are open at one time";
        taken_ |= uint64_t{1} << place;
        open_[place] = operations_[event.operation];
        places[event.operation] = place;
        continue;
      }
      answer(places[event.operation]);
      if (configurations_.size() > kConfigurationsMax) return kUndecided;
      if (configurations_.empty()) return say(event.operation);
      most_ = std::max(most_, configurations_.size());
    }
    return {};
  }
  [[nodiscard]] size_t most() const noexcept { return most_; }

 private:
  // Only configurations in which the operation at this place has taken effect explain its answer.
  void answer(unsigned place) {
    const uint64_t bit = uint64_t{1} << place;
    std::vector<Configuration> left(configurations_.begin(), configurations_.end());
    std::unordered_set<Configuration, HashOf> seen = std::move(configurations_);
    configurations_.clear();
    while (!left.empty() && seen.size() <= kConfigurationsMax) {
      const Configuration from = left.back();
      left.pop_back();
      if ((from.effective & bit) != 0) {
        configurations_.insert({.record = from.record, .effective = from.effective & ~bit});
        continue;
      }
      for (uint64_t others = taken_ & ~from.effective; others != 0; others &= others - 1) {
        const unsigned other = static_cast<unsigned>(std::countr_zero(others));
        const std::optional<Record> next = after(*open_[other], from.record);
        if (!next) continue;
        const Configuration to{.record = *next, .effective = from.effective | uint64_t{1} << other};
        if (seen.insert(to).second) left.push_back(to);
      }
    }
    if (seen.size() > kConfigurationsMax) configurations_ = std::move(seen);
    taken_ &= ~bit;
  }

  std::string say(size_t wrong) const {
    std::vector<const Operation*> before;
    for (const Operation* operation : operations_) {
      if (operation->begin_ns <= operations_[wrong]->end_ns) before.push_back(operation);
    }
    std::ranges::sort(before, {}, &Operation::begin_ns);
    std::string text = "no order explains this answer:\n  " + text_of(*operations_[wrong]) + "\nafter\n";
    for (size_t i = before.size() > kShownBefore ? before.size() - kShownBefore : 0; i < before.size(); ++i)
      text += "  " + text_of(*before[i]) + '\n';
    return text;
  }

  std::span<const Operation* const> operations_;
  std::array<const Operation*, kOpenMax> open_{};
  uint64_t taken_ = 0;
  std::unordered_set<Configuration, HashOf> configurations_;
  size_t most_ = 1;
};

// A change that began after another one's answer has a later sequence, whatever their ids; a get shows the sequence of its put.
std::string check_sequences(const std::vector<Operation>& history) {
  std::vector<const Operation*> changes;
  std::unordered_map<uint32_t, const Operation*> puts;
  for (const Operation& operation : history) {
    if (is_read(operation) || is_unknown(operation) || operation.code != WARM_OK) continue;
    changes.push_back(&operation);
    if (operation.kind == Kind::put) puts[operation.number] = &operation;
  }
  std::vector<const Operation*> by_end = changes;
  std::ranges::sort(changes, {}, &Operation::begin_ns);
  std::ranges::sort(by_end, {}, &Operation::end_ns);
  const Operation* latest = nullptr;
  size_t ended = 0;
  for (const Operation* change : changes) {
    for (; ended < by_end.size() && by_end[ended]->end_ns < change->begin_ns; ++ended) {
      if (latest == nullptr || by_end[ended]->sequence > latest->sequence) latest = by_end[ended];
    }
    if (latest != nullptr && latest->sequence >= change->sequence)
      return "a later change has no later sequence:\n  " + text_of(*latest) + "\n  " + text_of(*change) + '\n';
  }
  for (const Operation& operation : history) {
    if (operation.kind != Kind::get || is_unknown(operation) || operation.code != WARM_OK) continue;
    const auto put = puts.find(operation.record);
    if (put != puts.end() && put->second->sequence != operation.sequence)
      return "a get shows another sequence than its put got:\n  " + text_of(*put->second) + "\n  " + text_of(operation) + '\n';
  }
  return {};
}

}  // namespace

Verdict check(const std::vector<Operation>& history) {
  std::map<uint32_t, std::vector<const Operation*>> by_key;
  Verdict verdict;
  for (const Operation& operation : history) {
    ++verdict.operations;
    verdict.unknown += is_unknown(operation) && !is_read(operation);
    if (!is_nothing(operation)) by_key[operation.key].push_back(&operation);
  }
  verdict.ids = by_key.size();
  for (const auto& [key, operations] : by_key) {
    Search search(operations);
    verdict.wrong = search.run();
    verdict.configurations = std::max(verdict.configurations, search.most());
    if (!verdict.wrong.empty()) return verdict;
  }
  verdict.wrong = check_sequences(history);
  return verdict;
}

std::string text_of(const Operation& operation) {
  constexpr std::array kNames = {"put", "remove", "update", "get", "scalars", "exists"};
  char condition[48] = "";
  if (operation.condition == Condition::absent) std::snprintf(condition, sizeof condition, " if absent");
  if (operation.condition == Condition::record) std::snprintf(condition, sizeof condition, " if of %u", operation.record);
  char text[256];
  std::snprintf(text, sizeof text, "[%llu, %llu] id %u: %s %u%s: %s, record %u, number %u, sequence %llu",
                static_cast<unsigned long long>(operation.begin_ns), static_cast<unsigned long long>(operation.end_ns),
                operation.key, kNames[static_cast<size_t>(operation.kind)], operation.number, condition,
                operation.end_ns == 0 ? "no answer" : warm_error_name(operation.code), operation.record, operation.seen,
                static_cast<unsigned long long>(operation.sequence));
  return text;
}

}  // namespace warmtier::tests::linear
