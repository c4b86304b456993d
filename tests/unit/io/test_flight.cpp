#include "daemon/io/flight.hpp"

#include <criterion/criterion.h>

#include <array>
#include <cerrno>
#include <limits>
#include <vector>

namespace {

using warmtier::daemon::io::advance;
using warmtier::daemon::io::Completion;
using warmtier::daemon::io::Flight;
using warmtier::daemon::io::kAttemptsMax;
using warmtier::daemon::io::kInFlightMax;
using warmtier::daemon::io::kPartBytesMax;
using warmtier::daemon::io::next_part;
using warmtier::daemon::io::Operation;
using warmtier::daemon::io::Progress;

std::array<std::byte, 8192> memory;

std::vector<Completion> taken(Flight& flight) {
  std::vector<Completion> completions(kInFlightMax);
  completions.resize(flight.take(completions));
  return completions;
}

}  // namespace

Test(flight, operations_start_in_the_order_of_their_admission) {
  Flight flight;
  for (uint64_t token = 10; token < 15; ++token) cr_assert(flight.admit(Operation::sync_data(token, 0)).has_value());
  for (uint64_t token = 10; token < 15; ++token) cr_assert_eq(flight.operation(*flight.start()).token, token);
  cr_assert(!flight.start().has_value());
  cr_assert_eq(flight.in_flight(), 5u);
}

Test(flight, an_operation_that_could_not_start_is_the_next_to_start) {
  Flight flight;
  for (uint64_t token = 1; token <= 3; ++token) cr_assert(flight.admit(Operation::sync_data(token, 0)).has_value());
  const auto first = *flight.start();
  flight.unstart(first);
  cr_assert_eq(*flight.start(), first);
  cr_assert_eq(flight.operation(*flight.start()).token, 2u);
}

Test(flight, a_success_frees_exactly_its_successors) {
  Flight flight;
  cr_assert(flight.admit(Operation::sync_data(1, 0)).has_value());
  cr_assert(flight.admit(Operation::sync_data(2, 0)).has_value());
  cr_assert(flight.admit(Operation::sync_data(3, 0).begin_after(1)).has_value());
  cr_assert(flight.admit(Operation::sync_data(4, 0).begin_after(2)).has_value());
  cr_assert(flight.admit(Operation::sync_data(5, 0).begin_after(1)).has_value());
  const auto one = *flight.start();
  const auto two = *flight.start();
  cr_assert(!flight.start().has_value());
  flight.finish(one, 0);
  cr_assert_eq(flight.operation(*flight.start()).token, 3u);
  cr_assert_eq(flight.operation(*flight.start()).token, 5u);
  cr_assert(!flight.start().has_value());
  flight.finish(two, 0);
  cr_assert_eq(flight.operation(*flight.start()).token, 4u);
}

Test(flight, a_failure_cancels_its_successors_down_the_chain_and_no_others) {
  Flight flight;
  cr_assert(flight.admit(Operation::sync_data(1, 0)).has_value());
  cr_assert(flight.admit(Operation::sync_data(2, 0).begin_after(1)).has_value());
  cr_assert(flight.admit(Operation::sync_data(3, 0).begin_after(2)).has_value());
  cr_assert(flight.admit(Operation::sync_data(4, 0)).has_value());
  cr_assert(flight.admit(Operation::sync_data(5, 0).begin_after(4)).has_value());
  flight.finish(*flight.start(), -EIO);
  const auto completions = taken(flight);
  cr_assert_eq(completions.size(), 3u);
  cr_assert(completions[0].token == 1 && completions[0].result == -EIO);
  cr_assert(completions[1].token == 2 && completions[1].result == -ECANCELED);
  cr_assert(completions[2].token == 3 && completions[2].result == -ECANCELED);
  cr_assert_eq(flight.operation(*flight.start()).token, 4u);
  cr_assert_eq(flight.in_flight(), 2u);
}

Test(flight, a_successor_looks_at_a_predecessor_that_is_over_but_not_at_one_that_is_reaped) {
  Flight flight;
  for (const int64_t result : {int64_t{0}, int64_t{-EIO}}) {
    cr_assert(flight.admit(Operation::sync_data(1, 0)).has_value());
    flight.finish(*flight.start(), result);
    cr_assert(flight.admit(Operation::sync_data(2, 0).begin_after(1)).has_value());
    cr_assert_eq(flight.any_startable(), result == 0);
    if (result == 0) flight.finish(*flight.start(), 0);
    const auto completions = taken(flight);
    cr_assert_eq(completions.size(), 2u);
    cr_assert_eq(completions[1].result, result == 0 ? 0 : -ECANCELED);
    cr_assert(flight.admit(Operation::sync_data(3, 0).begin_after(1)).has_value());
    flight.finish(*flight.start(), 0);
    cr_assert_eq(taken(flight).size(), 1u);
  }
}

Test(flight, the_limit_is_refused_and_places_come_back) {
  Flight flight;
  for (int round = 0; round < 3; ++round) {
    for (uint64_t token = 0; token < kInFlightMax; ++token) cr_assert(flight.admit(Operation::sync_data(token, 0)).has_value());
    const auto status = flight.admit(Operation::sync_data(kInFlightMax, 0));
    cr_assert(!status.has_value());
    cr_assert_eq(status.error().code, WARM_E_BUSY);
    while (const auto slot = flight.start()) flight.finish(*slot, 0);
    cr_assert_eq(taken(flight).size(), kInFlightMax);
    cr_assert_eq(flight.in_flight(), 0u);
  }
}

Test(flight, a_transfer_cut_short_goes_on_where_it_stopped) {
  Progress progress;
  const auto write = Operation::write(1, 3, memory, 100);
  cr_assert(!advance(write, progress, 5000).has_value());
  const auto part = next_part(write, progress);
  cr_assert(part.memory == memory.data() + 5000 && part.offset == 5100 && part.bytes == 3192);
  cr_assert_eq(*advance(write, progress, 3192), 8192);
}

Test(flight, a_read_ends_at_the_end_of_the_file_and_a_write_of_nothing_is_an_error) {
  Progress progress;
  const auto read = Operation::read(1, 3, memory, 0);
  cr_assert(!advance(read, progress, 100).has_value());
  cr_assert_eq(*advance(read, progress, 0), 100);
  Progress other;
  cr_assert_eq(*advance(Operation::write(1, 3, memory, 0), other, 0), -EIO);
}

Test(flight, interrupted_transfers_are_tried_again_a_bounded_number_of_times_and_syncs_never) {
  for (const int64_t answer : {int64_t{-EINTR}, int64_t{-EAGAIN}}) {
    for (const auto& operation : {Operation::write(1, 3, memory, 0), Operation::write_durable(1, 3, memory, 0),
                                  Operation::read(1, 3, memory, 0), Operation::allocate(1, 3, 0, 4096)}) {
      Progress progress;
      for (uint32_t attempt = 1; attempt < kAttemptsMax; ++attempt) cr_assert(!advance(operation, progress, answer).has_value());
      cr_assert_eq(*advance(operation, progress, answer), answer);
    }
    for (const auto& operation : {Operation::sync_data(1, 3), Operation::sync_range(1, 3, 0, memory),
                                  Operation::sync_directory(1, 3), Operation::write_back(1, 3, 0, 4096)}) {
      Progress progress;
      cr_assert_eq(*advance(operation, progress, answer), answer);
    }
  }
  Progress progress;
  cr_assert_eq(*advance(Operation::write(1, 3, memory, 0), progress, -EIO), -EIO);
}

Test(flight, long_ranges_are_covered_without_gap_by_parts_that_fit_32_bits) {
  for (const uint64_t bytes : {uint64_t{1}, kPartBytesMax, kPartBytesMax + 1, 7 * kPartBytesMax + 4096}) {
    const auto sync = Operation::write_back(1, 3, 4096, bytes);
    Progress progress;
    uint64_t covered = 0;
    for (;;) {
      const auto part = next_part(sync, progress);
      cr_assert_eq(part.offset, 4096 + covered);
      cr_assert(part.bytes > 0 && part.bytes <= std::numeric_limits<uint32_t>::max());
      covered += part.bytes;
      if (const auto result = advance(sync, progress, 0); result.has_value()) {
        cr_assert_eq(*result, 0);
        break;
      }
    }
    cr_assert_eq(covered, bytes);
  }
  const auto allocate = Operation::allocate(1, 3, 0, 7 * kPartBytesMax);
  cr_assert_eq(next_part(allocate, {}).bytes, 7 * kPartBytesMax);
}
