/* Many in one call: in order, with one result each. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/abi/memories.h"

TestSuite(batches, .timeout = 120);

static support_daemon* daemon_;
static warm_client* client;

static void with_daemon(void) {
  daemon_ = support_daemon_start(TEST_DIMENSIONS, 8192, 0);
  client = support_daemon_open(daemon_);
}
static void without_daemon(void) {
  warm_close(client);
  support_daemon_free(daemon_);
}

enum { kMany = 3000, kIds = 7 };

/* Of a few ids again and again, so that order shows; now and then content that goes by the socket. */
static warm_memory* few_ids_many_times(uint32_t seed) {
  warm_memory* memories = room_of(kMany * sizeof *memories);
  for (uint32_t i = 0; i < kMany; ++i) {
    char id[32];
    snprintf(id, sizeof id, "id %u", i % kIds);
    memories[i] = memory_of_text(id, seed + i);
    if (i % 500 == 250) memory_set_content(&memories[i], bytes_of(70000 + i, i), 70000 + i);
    if (i % 3 == 1) memory_set_content(&memories[i], bytes_of(i % 300, i), i % 300);
  }
  return memories;
}

Test(batches, elements_are_carried_out_one_after_the_other, .init = with_daemon, .fini = without_daemon) {
  const warm_memory* memories = few_ids_many_times(1);
  warm_result* results = room_of(kMany * sizeof *results);
  cr_assert_ok(warm_put_many(client, memories, kMany, results));
  for (uint32_t i = 0; i < kMany; ++i) {
    cr_assert_eq(results[i].code, WARM_OK, "element %u: %s", i, warm_error_name(results[i].code));
    cr_assert_eq(results[i].reserved, 0);
    if (i > 0) cr_assert_gt(results[i].sequence, results[i - 1].sequence, "element %u came before the one before it", i);
  }
  for (uint32_t i = kMany - kIds; i < kMany; ++i) {
    const char* differs = memory_differs(client, &memories[i]);
    cr_assert_null(differs, "element %u: %s", i, differs);
  }
}

Test(batches, a_refused_element_does_not_keep_the_others, .init = with_daemon, .fini = without_daemon) {
  enum { kElements = 12 };
  warm_memory memories[kElements];
  int32_t expected[kElements];
  for (uint32_t i = 0; i < kElements; ++i) {
    char id[32];
    snprintf(id, sizeof id, "element %u", i);
    memories[i] = memory_of_text(id, i);
    expected[i] = WARM_OK;
  }
  memories[1].struct_bytes -= 8, expected[1] = WARM_E_INVALID;
  memories[2].id_bytes = 0, expected[2] = WARM_E_INVALID;
  memories[3].id_bytes = WARM_ID_BYTES_MAX + 1, expected[3] = WARM_E_LIMIT;
  memories[4].dimensions = TEST_DIMENSIONS + 1, expected[4] = WARM_E_INVALID;
  memories[5].activation = NAN, expected[5] = WARM_E_INVALID;
  memories[6].flags = WARM_DURABLE, expected[6] = WARM_E_UNSUPPORTED;
  memories[7] = memory_of_text("element 0", 7), memories[7].condition = WARM_IF_ABSENT, expected[7] = WARM_E_EXISTS;
  memories[8].condition = WARM_IF_SEQUENCE, memories[8].if_sequence = 5, expected[8] = WARM_E_CHANGED;
  memory_set_content(&memories[9], memories[9].id, (size_t)WARM_CONTENT_BYTES_MAX + 1), expected[9] = WARM_E_LIMIT;
  memories[10] = memory_of_text("element 0", 10), memories[10].condition = WARM_IF_ANY;
  warm_result results[kElements];
  cr_assert_ok(warm_put_many(client, memories, kElements, results));
  for (uint32_t i = 0; i < kElements; ++i) {
    cr_assert_eq(results[i].code, expected[i], "element %u: %s", i, warm_error_name(results[i].code));
  }
  cr_assert_eq(results[7].sequence, results[0].sequence, "of the record that is in the way");
  cr_assert_eq(results[8].sequence, 0, "there was none");
  cr_assert_null(memory_differs(client, &memories[10]));
  cr_assert_null(memory_differs(client, &memories[11]));
  cr_assert_code(warm_exists(client, "element 5", 9), WARM_E_NOT_FOUND);
}

Test(batches, removals_keep_their_order_too, .init = with_daemon, .fini = without_daemon) {
  warm_memory* memories = few_ids_many_times(9);
  warm_result* results = room_of(kMany * sizeof *results);
  cr_assert_ok(warm_put_many(client, memories, kIds, results));
  warm_id ids[2 * kIds + 1];
  for (uint32_t i = 0; i < 2 * kIds; ++i) ids[i] = (warm_id){memories[i % kIds].id, memories[i % kIds].id_bytes};
  ids[2 * kIds] = (warm_id){"", 0};
  cr_assert_ok(warm_remove_many(client, ids, 2 * kIds + 1, 0, results));
  for (uint32_t i = 0; i < kIds; ++i) {
    cr_assert_eq(results[i].code, WARM_OK);
    if (i > 0) cr_assert_gt(results[i].sequence, results[i - 1].sequence);
    cr_assert_eq(results[kIds + i].code, WARM_E_NOT_FOUND);
    cr_assert_code(warm_exists(client, ids[i].data, ids[i].bytes), WARM_E_NOT_FOUND);
  }
  cr_assert_eq(results[2 * kIds].code, WARM_E_INVALID);
}

Test(batches, a_list_of_nothing_and_a_list_that_is_not_there, .init = with_daemon, .fini = without_daemon) {
  const warm_memory memory = memory_of_text("one", 1);
  const warm_id id = {"one", 3};
  warm_result result = {7, 7, 7};
  cr_assert_ok(warm_put_many(client, NULL, 0, NULL));
  cr_assert_ok(warm_remove_many(client, NULL, 0, 0, NULL));
  cr_assert_code(warm_put_many(NULL, &memory, 1, &result), WARM_E_INVALID);
  cr_assert_code(warm_put_many(client, NULL, 1, &result), WARM_E_INVALID);
  cr_assert_code(warm_put_many(client, &memory, 1, NULL), WARM_E_INVALID);
  cr_assert_code(warm_remove_many(client, NULL, 1, 0, &result), WARM_E_INVALID);
  cr_assert_code(warm_remove_many(client, &id, 1, 0, NULL), WARM_E_INVALID);
  cr_assert_code(warm_remove_many(client, &id, 1, 2, &result), WARM_E_INVALID);
  cr_assert_code(warm_remove_many(client, &id, 1, WARM_DURABLE, &result), WARM_E_UNSUPPORTED);
  cr_assert_eq(result.code, 7);
  cr_assert_ok(warm_put_many(client, &memory, 1, &result));
  cr_assert_eq(result.code, WARM_OK);
  cr_assert_null(memory_differs(client, &memory));
}

Test(batches, a_batch_goes_on_while_every_other_cell_is_an_open_ticket, .init = with_daemon, .fini = without_daemon) {
  const warm_memory* memories = few_ids_many_times(3);
  static warm_ticket tickets[WARM_TICKETS_MAX];
  for (uint32_t i = 0; i < WARM_TICKETS_MAX; ++i) cr_assert_ok(warm_put_submit(client, &memories[i % 200], &tickets[i]));
  warm_result* results = room_of(kMany * sizeof *results);
  cr_assert_ok(warm_put_many(client, memories, kMany, results));
  for (uint32_t i = 0; i < kMany; ++i) cr_assert_eq(results[i].code, WARM_OK);
  warm_result result;
  for (uint32_t i = 0; i < WARM_TICKETS_MAX; ++i) {
    cr_assert_ok(warm_ticket_wait(client, tickets[i], 60000, &result));
    cr_assert_eq(result.code, WARM_OK);
    cr_assert_lt(result.sequence, results[kMany - 1].sequence);
  }
}
