// What the daemon says of itself over HTTP: one table of numbers, written as JSON and in Prometheus' text format. Reads the
// status page as any process may: each number is right by itself, they are not of one moment.
//
// Thread law: any thread; nothing is stored.
#pragma once

#include <span>
#include <string>

#include "layout/layout.hpp"

namespace warmtier::daemon::control {

struct Source {
  const layout::StatusPage& status;
  layout::Geometry geometry;
};

// GET /api/v1/metrics/storage: the names of warm_stats and `warmtierctl status --json`, and what is computed from them.
std::string storage_json(const Source& source);
// GET /metrics
std::string prometheus_text(const Source& source);

}  // namespace warmtier::daemon::control
