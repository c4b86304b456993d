#include "daemon/control/numbers.hpp"

#include <cinttypes>
#include <cstdint>
#include <cstdio>

#include "base/clock.hpp"
#include "layout/shared.hpp"

namespace warmtier::daemon::control {
namespace {

using layout::load_relaxed;
using layout::StatusPage;

enum class Type { gauge, counter };
enum class Unit { one, nanoseconds };

// Counters start at 0 with each daemon. A name of Prometheus is in base units and says `_total` when it only rises.
struct Number {
  const char* name;
  const char* prometheus;
  Type type;
  const char* help;
  uint64_t (*value)(const Source&);
  Unit unit = Unit::one;
};

template <uint64_t StatusPage::* field>
uint64_t word(const Source& source) {
  return load_relaxed(source.status.*field);
}

uint64_t fragmentation_bytes(const Source& source) {
  const uint64_t total = word<&StatusPage::content_bytes_total>(source);
  const uint64_t live = word<&StatusPage::content_bytes_live>(source);
  // Two words of two moments: live may be the newer one.
  return total > live ? total - live : 0;
}
double fragmentation_ratio(const Source& source) {
  const uint64_t total = word<&StatusPage::content_bytes_total>(source);
  return total == 0 ? 0.0 : static_cast<double>(fragmentation_bytes(source)) / static_cast<double>(total);
}
uint64_t total_size_bytes(const Source& source) {
  return word<&StatusPage::slots_allocated>(source) * (sizeof(layout::SlotLine) + uint64_t{source.geometry.row_bytes}) +
         word<&StatusPage::content_bytes_total>(source);
}
uint64_t content_operations(const Source& source) {
  return word<&StatusPage::puts>(source) + word<&StatusPage::removes>(source) + word<&StatusPage::gets>(source);
}
uint64_t uptime_ns(const Source& source) {
  const uint64_t now_ns = base::wall_ns();
  const uint64_t started_ns = word<&StatusPage::started_ns>(source);
  return now_ns > started_ns ? now_ns - started_ns : 0;
}

constexpr Number kNumbers[] = {
    {"memory_count", "warmtier_memories", Type::gauge, "Live records, by the name that dashboards of memory stores use.",
     word<&StatusPage::records>},
    {"total_size_bytes", "warmtier_size_bytes", Type::gauge, "Bytes of all slots with space behind them and of all content.",
     total_size_bytes},
    {"content_storage_bytes", "warmtier_content_storage_bytes", Type::gauge,
     "Bytes appended to the content segments that are there.", word<&StatusPage::content_bytes_total>},
    {"content_fragmentation_bytes", "warmtier_content_fragmentation_bytes", Type::gauge,
     "Of them, bytes that no live record names.", fragmentation_bytes},
    {"content_operations", "warmtier_content_operations_total", Type::counter, "Puts, removes and gets; gets as the clients say.",
     content_operations},
    {"records", "warmtier_records", Type::gauge, "Live records.", word<&StatusPage::records>},
    {"capacity", "warmtier_capacity_records", Type::gauge, "Records that the store may hold at most.",
     [](const Source& source) { return source.geometry.capacity; }},
    {"slots_allocated", "warmtier_slots_allocated", Type::gauge, "Slots with space behind them.",
     word<&StatusPage::slots_allocated>},
    {"slots_free", "warmtier_slots_free", Type::gauge, "Slots that a put may use at once.", word<&StatusPage::slots_free>},
    {"slots_waiting", "warmtier_slots_waiting", Type::gauge, "Dead slots that wait for a checkpoint or for grace.",
     word<&StatusPage::slots_waiting>},
    {"slots_held", "warmtier_slots_held", Type::gauge, "Dead slots that a view still pins.", word<&StatusPage::slots_held>},
    {"segments", "warmtier_segments", Type::gauge, "Files of content.", word<&StatusPage::segments>},
    {"content_bytes_live", "warmtier_content_live_bytes", Type::gauge, "Bytes of content records that live records name.",
     word<&StatusPage::content_bytes_live>},
    {"content_bytes_total", "warmtier_content_bytes", Type::gauge, "Bytes appended to the content segments that are there.",
     word<&StatusPage::content_bytes_total>},
    {"sequence", "warmtier_sequence", Type::gauge, "Sequence of the last change that every process sees.",
     word<&StatusPage::sequence>},
    {"sequence_durable", "warmtier_sequence_durable", Type::gauge, "Changes up to this sequence survive power loss.",
     word<&StatusPage::sequence_durable>},
    {"sessions", "warmtier_sessions", Type::gauge, "Open sessions.", word<&StatusPage::sessions>},
    {"channels", "warmtier_channels", Type::gauge, "Open channels.", word<&StatusPage::channels>},
    {"puts", "warmtier_puts_total", Type::counter, "Puts that were carried out.", word<&StatusPage::puts>},
    {"removes", "warmtier_removes_total", Type::counter, "Removes that were carried out.", word<&StatusPage::removes>},
    {"updates", "warmtier_updates_total", Type::counter, "Updates of scalars that were carried out.", word<&StatusPage::updates>},
    {"touches", "warmtier_touches_total", Type::counter, "Touches applied: recall counts that went up.",
     word<&StatusPage::touches>},
    {"touches_dropped", "warmtier_touches_dropped_total", Type::counter,
     "Touches that the daemon did not keep up with, mostly as the clients say.", word<&StatusPage::touches_dropped>},
    {"refused", "warmtier_refused_requests_total", Type::counter, "Requests answered without an effect.",
     word<&StatusPage::refused>},
    {"gets", "warmtier_gets_total", Type::counter, "Gets that found a record, as the clients say.", word<&StatusPage::gets>},
    {"misses", "warmtier_misses_total", Type::counter, "Gets that found none, as the clients say.", word<&StatusPage::misses>},
    {"lane_repairs", "warmtier_lane_repairs_total", Type::counter,
     "Lanes repaired after a client died in them, as the clients say.", word<&StatusPage::lane_repairs>},
    {"lanes_fenced", "warmtier_lanes_fenced_total", Type::counter, "Lanes given up because their mutex cannot be had any more.",
     word<&StatusPage::lanes_fenced>},
    {"pins_voided", "warmtier_pins_voided_total", Type::counter, "Pins of dead processes that were given up.",
     word<&StatusPage::pins_voided>},
    {"sessions_ended", "warmtier_sessions_ended_total", Type::counter, "Sessions that ended, by death or bye.",
     word<&StatusPage::sessions_ended>},
    {"checkpoints", "warmtier_checkpoints_total", Type::counter, "Checkpoints that were completed.",
     word<&StatusPage::checkpoints>},
    {"index_doublings", "warmtier_index_doublings_total", Type::counter, "How often the index grew.",
     word<&StatusPage::index_doublings>},
    {"requests_recovered", "warmtier_requests_recovered_total", Type::counter,
     "Requests in flight at the last restart that were decided then.", word<&StatusPage::requests_recovered>},
    {"bad_requests", "warmtier_bad_requests_total", Type::counter, "Requests of clients that failed validation.",
     word<&StatusPage::bad_requests>},
    {"damaged_records", "warmtier_damaged_records", Type::gauge, "Records that recovery found damaged.",
     word<&StatusPage::damaged_records>},
    {"orphans", "warmtier_orphans", Type::gauge, "Sessions of the last daemon whose processes have not come back.",
     word<&StatusPage::orphans>},
    {"spin_ns", "warmtier_spin_seconds_total", Type::counter, "Time that the store thread spent looking for work.",
     word<&StatusPage::spin_ns>, Unit::nanoseconds},
    {"uptime_ns", "warmtier_uptime_seconds", Type::gauge, "Time since the daemon started.", uptime_ns, Unit::nanoseconds},
};

template <typename... Values>
void append(std::string& text, const char* format, Values... values) {
  char line[384];
  const int n = std::snprintf(line, sizeof line, format, values...);
  if (n > 0) text.append(line, static_cast<size_t>(n) < sizeof line ? static_cast<size_t>(n) : sizeof line - 1);
}

}  // namespace

// Names are ours and values are numbers: there is nothing to escape.
std::string storage_json(const Source& source) {
  std::string text = "{";
  for (const Number& number : kNumbers) append(text, "\n  \"%s\": %" PRIu64 ",", number.name, number.value(source));
  append(text, "\n  \"fragmentation_ratio\": %.6f\n}\n", fragmentation_ratio(source));
  return text;
}

std::string prometheus_text(const Source& source) {
  std::string text;
  for (const Number& number : kNumbers) {
    append(text, "# HELP %s %s\n# TYPE %s %s\n", number.prometheus, number.help, number.prometheus,
           number.type == Type::counter ? "counter" : "gauge");
    const uint64_t value = number.value(source);
    if (number.unit == Unit::nanoseconds) {
      append(text, "%s %.9f\n", number.prometheus, static_cast<double>(value) / static_cast<double>(base::kNsPerSecond));
    } else {
      append(text, "%s %" PRIu64 "\n", number.prometheus, value);
    }
  }
  append(text,
         "# HELP warmtier_fragmentation_ratio Part of the content that no live record names, 0 to 1.\n"
         "# TYPE warmtier_fragmentation_ratio gauge\nwarmtier_fragmentation_ratio %.6f\n",
         fragmentation_ratio(source));
  return text;
}

}  // namespace warmtier::daemon::control
