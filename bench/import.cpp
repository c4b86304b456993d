// How long warmtierctl takes for many records: a .npy and lines without embeddings, as NumPy users bring them.
#include <fstream>

#include "bench/world.hpp"
#include "tools/ctl_npy.hpp"

namespace warmtier::bench {
namespace {

constexpr uint64_t kRecords = 100'000;
constexpr double kLimitSeconds = 10;
constexpr size_t kContentBytes = 100;

void write_files(const std::string& lines_path, const std::string& rows_path, uint64_t records) {
  auto rows = tools::NpyWriter::create(rows_path, kDimensions);
  if (!rows) stop_because(rows.error().text);
  std::ofstream lines(lines_path);
  Bytes bytes(0);
  for (uint64_t key = 0; key < records; ++key) {
    bytes.make(key);
    if (const auto added = rows->add({bytes.row(), kDimensions}); !added) stop_because(added.error().text);
    const Id id(key);
    lines << "{\"id\":\"" << std::string_view(id.data(), Id::bytes()) << "\",\"content\":\"" << std::string(kContentBytes, 'c')
          << "\"}\n";
  }
  if (const auto finished = rows->finish(); !finished) stop_because(finished.error().text);
  if (!lines.flush()) stop_because("cannot write " + lines_path);
}

}  // namespace

void bench_import(const Settings& settings, Reporter& reporter) {
  const uint64_t records = settings.quick ? kRecords / 10 : kRecords;
  World world(settings, records + 65'536, 0, kContentBytes);
  const std::string lines = world.daemon().directory() + "/lines";
  const std::string rows = world.daemon().directory() + "/rows.npy";
  const std::string log = world.daemon().directory() + "/import.log";
  write_files(lines, rows, records);
  const std::string ctl = tests::support::program_path("WARMTIERCTL", WARMTIERCTL_BUILT);
  for (const char* how : {"new", "replaced"}) {
    const uint64_t began_ns = base::monotonic_ns();
    auto process = tests::support::Process::execute(
        {ctl, "--socket", world.daemon().socket(), "import", lines, "--embeddings", rows}, {}, log);
    if (const auto end = process.wait(); end != tests::support::exit_code(0)) {
      std::ifstream said(log);
      stop_because("import: " + tests::support::text_of(end) + ": " + std::string(std::istreambuf_iterator<char>(said), {}));
    }
    const double seconds = static_cast<double>(base::monotonic_ns() - began_ns) / 1e9;
    if (tests::support::stats_of(world.client()).records != records) stop_because("import: not every record is there");
    Result result =
        single("import", std::to_string(records) + " records of 768 dimensions from .npy, " + how, records, "s", seconds);
    result.ops_per_s = static_cast<double>(records) / seconds;
    if (!settings.quick) against_limit(result, kLimitSeconds);
    reporter.say(result);
  }
}

}  // namespace warmtier::bench
