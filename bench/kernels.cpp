// The kernels of vector/ over more memory than any cache holds, beside reading the same memory.
#include <sys/mman.h>

#include "bench/bandwidth.hpp"
#include "bench/world.hpp"
#include "vector/kernels.hpp"

namespace warmtier::bench {
namespace {

constexpr size_t kRowsPerCall = 32;

}  // namespace

void bench_kernels(const Settings& settings, Reporter& reporter) {
  const size_t rows = settings.quick ? 40'000 : 100'000;
  const size_t bytes = rows * kRowBytes;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) stop_because("no memory for " + std::to_string(rows) + " rows");
  auto* values = static_cast<float*>(memory);
  for (size_t i = 0; i < rows * kDimensions; ++i) values[i] = static_cast<float>(mix(i) >> 40) / 16'777'216.0f;
  std::vector<const float*> row_pointers;
  for (size_t row = 0; row < rows; ++row) row_pointers.push_back(values + row * kDimensions);
  constexpr size_t kQueriesMax = 64;
  alignas(64) static float queries[kQueriesMax][kDimensions];
  std::vector<const float*> query_pointers;
  for (size_t q = 0; q < kQueriesMax; ++q) {
    std::memcpy(queries[q], values + q * 7 * kDimensions, kRowBytes);
    query_pointers.push_back(queries[q]);
  }

  const unsigned rounds = settings.quick ? 3 : 9;
  const double limit = read_ns({{.bytes = memory, .n = bytes}}, rounds);
  std::vector<float> pairs(kRowsPerCall * kQueriesMax);
  std::vector<float> squares(kRowsPerCall);
  for (const vector::Processor processor : {vector::Processor::avx512, vector::Processor::avx2, vector::Processor::scalar}) {
    const vector::Kernels* kernels = vector::kernels_of(processor);
    if (kernels == nullptr) continue;
    for (const size_t query_count : {1, 8, 64}) {
      if (processor == vector::Processor::scalar && query_count > 1) continue;
      for (const bool distances : {false, true}) {
        Samples samples(rounds);
        for (unsigned round = 0; round < rounds; ++round) {
          const uint64_t from = ticks();
          for (size_t row = 0; row < rows; row += kRowsPerCall) {
            const vector::Batch batch{.rows = row_pointers.data() + row,
                                      .row_count = std::min(kRowsPerCall, rows - row),
                                      .following = rows - std::min(rows, row + kRowsPerCall),
                                      .queries = query_pointers.data(),
                                      .query_count = query_count,
                                      .floats = kDimensions};
            distances ? kernels->distances(batch, pairs.data()) : kernels->products(batch, pairs.data(), squares.data());
          }
          samples.add(ticks() - from);
        }
        Result result = result_of("kernels",
                                  std::string(kernels->name) + (distances ? ", distances, " : ", products, ") +
                                      std::to_string(query_count) + (query_count == 1 ? " query" : " queries"),
                                  samples);
        against_limit(result, limit);
        reporter.say(result);
      }
    }
  }
  ::munmap(memory, bytes);
}

}  // namespace warmtier::bench
