/* Recall against a scan of the test's own, in double and in the plainest order; limits and their neighbours; scans that threads
 * share. */
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/abi/memories.h"

TestSuite(recall, .timeout = 300);

enum { kDimensions = 17, kRecords = 1500 };

static uint64_t random_state;
static uint64_t random_bits(void) {
  random_state += 0x9E3779B97F4A7C15u;
  uint64_t x = random_state;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}
static float in_unit(void) { return (float)((int64_t)(random_bits() >> 40) - (1 << 23)) / (float)(1 << 23); }

/* What the test knows of the store. */
typedef struct known {
  char id[24];
  float embedding[kDimensions];
  float confidence;
  uint64_t created_ns;
  int has_content;
} known;

static support_daemon* daemon_;
static warm_client* client;
static known* all;

static void fill(float* values, uint64_t kind) {
  for (int i = 0; i < kDimensions; ++i) {
    values[i] = kind % 50 == 1   ? in_unit() * 3e38f
                : kind % 50 == 2 ? in_unit() * 1e-42f
                : kind % 50 == 3 ? 0.0f
                : kind % 50 == 4 ? 1.0f
                                 : in_unit();
  }
}

static void put(const known* it) {
  warm_memory memory = WARM_MEMORY_INIT;
  memory.id = it->id;
  memory.id_bytes = strlen(it->id);
  memory.embedding = it->embedding;
  memory.dimensions = kDimensions;
  memory.given = WARM_GIVEN_CREATED | (it->has_content ? WARM_GIVEN_CONTENT : 0);
  memory.content = it->has_content ? it->id : NULL;
  memory.content_bytes = it->has_content ? strlen(it->id) : 0;
  memory.created_ns = it->created_ns;
  memory.confidence = it->confidence;
  cr_assert_ok(warm_put(client, &memory, NULL));
}

static void with_records(void) {
  random_state = 11;
  daemon_ = support_daemon_start(kDimensions, 4096, 0);
  client = support_daemon_open(daemon_);
  all = room_of(kRecords * sizeof *all);
  for (uint32_t i = 0; i < kRecords; ++i) {
    snprintf(all[i].id, sizeof all[i].id, "%c/%llu", "abc"[i % 3], (unsigned long long)random_bits() % 1000000000u * 10000u + i);
    fill(all[i].embedding, i);
    all[i].confidence = (float)(i % 100) / 100.0f;
    all[i].created_ns = 1000000000000000000u + (uint64_t)i * 86400000000000u;
    all[i].has_content = i % 2 == 0;
    put(&all[i]);
  }
}
static void without(void) {
  cr_assert_ok(warm_close(client));
  support_daemon_free(daemon_);
}

static warm_query query_of(const float* embedding, uint32_t metric, uint32_t limit) {
  warm_query query = WARM_QUERY_INIT;
  query.embedding = embedding;
  query.dimensions = kDimensions;
  query.metric = metric;
  query.limit = limit;
  return query;
}

static double naive_score(const warm_query* query, const known* it) {
  double product = 0;
  double mine = 0;
  double theirs = 0;
  double distance = 0;
  for (int i = 0; i < kDimensions; ++i) {
    const double q = (double)query->embedding[i];
    const double x = (double)it->embedding[i];
    product += q * x;
    mine += q * q;
    theirs += x * x;
    distance += (q - x) * (q - x);
  }
  double score = product;
  if (query->metric == WARM_METRIC_COSINE) score = mine == 0 || theirs == 0 ? 0 : product / (sqrt(mine) * sqrt(theirs));
  if (query->metric == WARM_METRIC_L2) score = -sqrt(distance);
  if (query->scoring == WARM_SCORE_TIER) {
    const double days = query->now_ns > it->created_ns ? (double)(query->now_ns - it->created_ns) / 86400e9 : 0;
    score *= (double)query->tier_factor * exp2(-days / (double)query->half_life_days);
    if (score < (double)query->score_floor) score = (double)query->score_floor;
  }
  return score;
}

static int naive_passes(const warm_filter* filter, const known* it) {
  if (filter == NULL) return 1;
  if (it->confidence < filter->confidence_min || it->confidence > filter->confidence_max) return 0;
  if (it->created_ns < filter->created_ns_min || it->created_ns > filter->created_ns_max) return 0;
  if (filter->content == WARM_FILTER_CONTENT_PRESENT && !it->has_content) return 0;
  if (filter->content == WARM_FILTER_CONTENT_ABSENT && it->has_content) return 0;
  return filter->id_prefix_bytes == 0 || strncmp(it->id, filter->id_prefix, filter->id_prefix_bytes) == 0;
}

/* Two scores that a plain sum and a sum in another order may have of the same numbers. */
static int alike(double a, double b, double scale) { return fabs(a - b) <= 1e-13 * (fabs(a) + fabs(b) + scale); }

typedef struct ranked {
  double score;
  const known* it;
} ranked;
static int by_score(const void* a, const void* b) {
  const ranked* x = a;
  const ranked* y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return strcmp(x->it->id, y->it->id);
}

static const known* known_of(const warm_view* view) {
  char id[24] = {0};
  memcpy(id, view->id, view->id_bytes);
  const uint32_t i = (uint32_t)(strtoull(id + 2, NULL, 10) % 10000u);
  return i < kRecords && strcmp(all[i].id, id) == 0 ? &all[i] : NULL;
}

/* Hits are what a naive scan says, as far as two ways to sum can be told apart. */
static void judge(const warm_query* query, const warm_hit* hits, size_t count) {
  ranked* right = malloc(kRecords * sizeof *right);
  size_t n = 0;
  double scale = 0; /* of the terms that were summed: what was lost of them when they cancel out */
  for (uint32_t i = 0; i < kRecords; ++i) {
    if (!naive_passes(query->filter, &all[i])) continue;
    const double score = naive_score(query, &all[i]);
    if (query->threshold > -FLT_MAX && score < (double)query->threshold) continue;
    right[n++] = (ranked){score, &all[i]};
  }
  qsort(right, n, sizeof *right, by_score);
  if (n > query->limit) n = query->limit;
  cr_assert_eq(count, n, "%zu hits instead of %zu", count, n);
  for (size_t i = 0; i < n; ++i) {
    const known* it = known_of(&hits[i].view);
    cr_assert_not_null(it);
    scale = query->metric == WARM_METRIC_COSINE ? 1 : 0;
    if (query->metric == WARM_METRIC_DOT) {
      for (int d = 0; d < kDimensions; ++d) scale += fabs((double)query->embedding[d] * (double)it->embedding[d]);
    }
    cr_assert(alike(hits[i].score, naive_score(query, it), scale), "hit %zu: %.17g, its own score is %.17g", i, hits[i].score,
              naive_score(query, it));
    cr_assert(alike(hits[i].score, right[i].score, scale), "hit %zu: %.17g instead of %.17g", i, hits[i].score, right[i].score);
    cr_assert(i == 0 || hits[i - 1].score >= hits[i].score);
    cr_assert_eq(memcmp(hits[i].view.embedding, it->embedding, sizeof it->embedding), 0);
    for (size_t j = 0; j < i; ++j) cr_assert_neq(hits[j].view.sequence, hits[i].view.sequence, "one record twice");
  }
  free(right);
}

static void recall_and_judge(const warm_query* query) {
  warm_hit* hits = malloc(query->limit * sizeof *hits);
  size_t count = 0;
  warm_recall_info info = WARM_RECALL_INFO_INIT;
  cr_assert_ok(warm_recall(client, query, hits, &count, &info));
  cr_assert_eq(info.partial, 0);
  cr_assert_eq(info.damaged, 0);
  cr_assert_eq(info.scanned, kRecords);
  cr_assert_not_null(info.kernel);
  judge(query, hits, count);
  cr_assert_ok(warm_hits_release(client, hits, count));
  cr_assert_ok(warm_hits_release(client, hits, count));
  free(hits);
}

Test(recall, a_thousand_queries_agree_with_a_naive_scan, .init = with_records, .fini = without) {
  for (uint32_t i = 0; i < 1000; ++i) {
    float embedding[kDimensions];
    fill(embedding, i * 7);
    if (i % 10 == 0) memcpy(embedding, all[random_bits() % kRecords].embedding, sizeof embedding);
    const warm_query query = query_of(embedding, i % 3, 1 + i % 40);
    recall_and_judge(&query);
  }
}

Test(recall, thresholds_and_filters_hold, .init = with_records, .fini = without) {
  for (uint32_t i = 0; i < 200; ++i) {
    float embedding[kDimensions];
    fill(embedding, 0);
    warm_query query = query_of(embedding, i % 3, i % 2 == 0 ? 10 : kRecords);
    warm_filter filter = WARM_FILTER_INIT;
    if (i % 3 != 0) query.threshold = query.metric == WARM_METRIC_L2 ? -2.5f : 0.3f;
    if (i % 4 != 0) query.filter = &filter;
    if (i % 5 == 1) filter.confidence_min = 0.5f;
    if (i % 5 == 2) filter.content = WARM_FILTER_CONTENT_PRESENT;
    if (i % 5 == 3) filter.id_prefix = "b/", filter.id_prefix_bytes = 2;
    if (i % 5 == 4) filter.created_ns_max = all[100].created_ns, filter.content = WARM_FILTER_CONTENT_ABSENT;
    recall_and_judge(&query);
  }
}

Test(recall, the_tiers_score_weakens_with_age_and_has_a_floor, .init = with_records, .fini = without) {
  for (uint32_t i = 0; i < 100; ++i) {
    float embedding[kDimensions];
    fill(embedding, 0);
    warm_query query = query_of(embedding, i % 2, 1 + i % 30);
    query.scoring = WARM_SCORE_TIER;
    query.now_ns = all[kRecords - 1].created_ns;
    if (i % 3 == 1) query.half_life_days = 100;
    if (i % 3 == 2) query.tier_factor = 0.5f, query.score_floor = -1;
    if (i % 7 == 0) query.threshold = 0.2f;
    recall_and_judge(&query);
  }
}

Test(recall, equal_scores_come_in_the_order_of_their_ids, .init = with_records, .fini = without) {
  /* A query of zeros is as near to everything as to anything. */
  const float zeros[kDimensions] = {0};
  for (uint32_t limit = 1; limit <= 1000; limit += 111) {
    const warm_query query = query_of(zeros, WARM_METRIC_COSINE, limit);
    warm_hit* hits = malloc(limit * sizeof *hits);
    size_t count = 0;
    cr_assert_ok(warm_recall(client, &query, hits, &count, NULL));
    ranked* right = malloc(kRecords * sizeof *right);
    for (uint32_t i = 0; i < kRecords; ++i) right[i] = (ranked){0, &all[i]};
    qsort(right, kRecords, sizeof *right, by_score);
    cr_assert_eq(count, limit);
    for (size_t i = 0; i < count; ++i) cr_assert_eq(known_of(&hits[i].view), right[i].it, "limit %u, place %zu", limit, i);
    free(right);
    cr_assert_ok(warm_hits_release(client, hits, count));
    free(hits);
  }
}

Test(recall, many_queries_in_one_pass_give_what_each_gives_alone, .init = with_records, .fini = without) {
  enum { kMany = 33 };
  warm_query queries[kMany];
  float embeddings[kMany][kDimensions];
  warm_filter filters[2] = {WARM_FILTER_INIT, WARM_FILTER_INIT};
  filters[0].confidence_max = 0.3f;
  filters[1].id_prefix = "c";
  filters[1].id_prefix_bytes = 1;
  size_t room = 0;
  for (uint32_t i = 0; i < kMany; ++i) {
    fill(embeddings[i], i);
    queries[i] = query_of(embeddings[i], i % 3, 1 + i * 3 % 20);
    if (i % 4 < 2) queries[i].filter = &filters[i % 4];
    room += queries[i].limit;
  }
  warm_hit* hits = malloc(room * sizeof *hits);
  size_t counts[kMany];
  for (size_t count = 1; count <= kMany; count += 8) {
    warm_recall_info info = WARM_RECALL_INFO_INIT;
    cr_assert_ok(warm_recall_many(client, queries, count, hits, counts, &info));
    cr_assert_eq(info.scanned, kRecords);
    size_t at = 0;
    for (size_t i = 0; i < count; at += queries[i++].limit) {
      judge(&queries[i], hits + at, counts[i]);
      cr_assert_ok(warm_hits_release(client, hits + at, counts[i]));
    }
  }
  free(hits);
}

static void* work(void* scan) { return (void*)(intptr_t)warm_recall_work(scan); }

Test(recall, threads_share_a_scan, .init = with_records, .fini = without) {
  float embedding[kDimensions];
  fill(embedding, 0);
  const warm_query query = query_of(embedding, WARM_METRIC_COSINE, 20);
  for (int threads = 0; threads <= 4; ++threads) {
    warm_recall_scan* scan = NULL;
    cr_assert_ok(warm_recall_open(client, &query, 1, &scan));
    cr_assert_code(warm_close(client), WARM_E_BUSY);
    pthread_t others[4];
    for (int i = 0; i < threads; ++i) cr_assert_eq(pthread_create(&others[i], NULL, work, scan), 0);
    for (int i = 0; i < threads; ++i) {
      void* code = NULL;
      cr_assert_eq(pthread_join(others[i], &code), 0);
      cr_assert_eq((intptr_t)code, WARM_OK);
    }
    warm_hit hits[20];
    size_t count = 0;
    warm_recall_info info = WARM_RECALL_INFO_INIT;
    cr_assert_ok(warm_recall_close(scan, hits, &count, &info));
    cr_assert_eq(info.scanned, kRecords);
    judge(&query, hits, count);
    cr_assert_ok(warm_hits_release(client, hits, count));
  }
  warm_recall_scan* scan = NULL;
  cr_assert_ok(warm_recall_open(client, &query, 1, &scan));
  cr_assert_ok(warm_recall_close(scan, NULL, NULL, NULL));
}

Test(recall, a_hit_is_the_view_that_a_get_gives, .init = with_records, .fini = without) {
  const warm_query query = query_of(all[7].embedding, WARM_METRIC_L2, 5);
  warm_hit hits[5];
  size_t count = 0;
  cr_assert_ok(warm_recall(client, &query, hits, &count, NULL));
  cr_assert_eq(count, 5);
  cr_assert_eq(known_of(&hits[0].view), &all[7]);
  cr_assert_eq(hits[0].score, 0.0);
  for (size_t i = 0; i < count; ++i) {
    warm_view view = WARM_VIEW_INIT;
    cr_assert_ok(warm_get(client, hits[i].view.id, hits[i].view.id_bytes, 0, &view));
    cr_assert_eq(memcmp(&view, &hits[i].view, offsetof(warm_view, internal)), 0);
    uint32_t state = 99;
    cr_assert_ok(warm_view_check(client, &hits[i].view, &state));
    cr_assert_eq(state, WARM_VIEW_CURRENT);
    cr_assert_ok(warm_release(client, &view));
  }
  cr_assert_code(warm_close(client), WARM_E_BUSY);
  cr_assert_ok(warm_remove(client, hits[0].view.id, hits[0].view.id_bytes, WARM_IF_ANY, 0, 0, NULL));
  cr_assert_eq(memcmp(hits[0].view.embedding, all[7].embedding, sizeof all[7].embedding), 0);
  cr_assert_ok(warm_hits_release(client, hits, count));
}

Test(recall, an_empty_store_has_no_hits_and_a_restarted_one_the_same_as_before) {
  support_daemon* daemon = support_daemon_start(kDimensions, 4096, 0);
  client = support_daemon_open(daemon);
  float embedding[kDimensions];
  fill(embedding, 0);
  const warm_query query = query_of(embedding, WARM_METRIC_COSINE, 3);
  warm_hit hits[3];
  size_t count = 9;
  cr_assert_ok(warm_recall(client, &query, hits, &count, NULL));
  cr_assert_eq(count, 0);
  known one = {.id = "one", .confidence = 1, .created_ns = 1, .has_content = 1};
  fill(one.embedding, 0);
  put(&one);
  for (int life = 0; life < 3; ++life) {
    cr_assert_ok(warm_recall(client, &query, hits, &count, NULL));
    cr_assert_eq(count, 1);
    cr_assert_ok(warm_hits_release(client, hits, count));
    if (life == 0) support_daemon_kill(daemon); /* its maps are still good */
    if (life == 1) support_daemon_run(daemon);
  }
  without();
}

static void refused(const warm_query* query, int code, const char* word) {
  warm_hit hit = {.score = 42};
  size_t count = 77;
  warm_recall_info info = WARM_RECALL_INFO_INIT;
  cr_assert_code(warm_recall(client, query, &hit, &count, &info), code);
  cr_assert_not_null(strstr(warm_last_error(), word), "the message should say %s: %s", word, warm_last_error());
  cr_assert_eq(count, 77);
  cr_assert_eq(hit.score, 42.0);
}

Test(recall, what_is_no_query_is_refused, .init = with_records, .fini = without) {
  float embedding[kDimensions] = {1};
  const warm_query good = query_of(embedding, WARM_METRIC_COSINE, 1);
  warm_query query = good;
#define REFUSED(change, code, word) \
  do {                              \
    query = good;                   \
    change;                         \
    refused(&query, code, word);    \
  } while (0)
  REFUSED(query.limit = 0, WARM_E_INVALID, "65536");
  REFUSED(query.limit = WARM_RECALL_MAX + 1, WARM_E_LIMIT, "65537");
  REFUSED(query.limit = UINT32_MAX, WARM_E_LIMIT, "65536");
  REFUSED(query.dimensions = kDimensions - 1, WARM_E_INVALID, "17");
  REFUSED(query.dimensions = kDimensions + 1 - 18, WARM_E_INVALID, "4096");
  REFUSED(query.dimensions = UINT32_MAX, WARM_E_INVALID, "4096");
  REFUSED(query.embedding = NULL, WARM_E_INVALID, "NULL");
  REFUSED(query.metric = 3, WARM_E_INVALID, "metric");
  REFUSED(query.scoring = 2, WARM_E_INVALID, "scoring");
  REFUSED(query.flags = 1, WARM_E_INVALID, "flags");
  REFUSED(query.reserved32 = 1, WARM_E_INVALID, "reserved");
  REFUSED(query.reserved[3] = 1, WARM_E_INVALID, "reserved");
  REFUSED(query.struct_bytes = 0, WARM_E_INVALID, "WARM_QUERY_INIT");
  REFUSED(query.hit_bytes = 8, WARM_E_INVALID, "WARM_QUERY_INIT");
  REFUSED(query.threshold = NAN, WARM_E_INVALID, "threshold");
  REFUSED((query.scoring = WARM_SCORE_TIER, query.metric = WARM_METRIC_L2), WARM_E_INVALID, "WARM_SCORE_TIER");
  REFUSED((query.scoring = WARM_SCORE_TIER, query.half_life_days = 0), WARM_E_INVALID, "half_life_days");
  REFUSED((query.scoring = WARM_SCORE_TIER, query.tier_factor = -1), WARM_E_INVALID, "tier_factor");
  REFUSED((query.scoring = WARM_SCORE_TIER, query.score_floor = NAN), WARM_E_INVALID, "score_floor");
  warm_filter filter = WARM_FILTER_INIT;
  filter.confidence_min = 2;
  filter.confidence_max = 1;
  REFUSED(query.filter = &filter, WARM_E_INVALID, "confidence");
  const float bad[] = {NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < 3; ++i) {
    embedding[kDimensions - 1] = bad[i];
    REFUSED((void)0, WARM_E_INVALID, "value 16");
  }
  embedding[kDimensions - 1] = 0;
  warm_hit hit;
  size_t count = 0;
  warm_recall_info info = WARM_RECALL_INFO_INIT;
  info.struct_bytes = 3;
  warm_recall_scan* scan = NULL;
  cr_assert_code(warm_recall(NULL, &good, &hit, &count, NULL), WARM_E_INVALID);
  cr_assert_code(warm_recall(client, NULL, &hit, &count, NULL), WARM_E_INVALID);
  cr_assert_code(warm_recall(client, &good, NULL, &count, NULL), WARM_E_INVALID);
  cr_assert_code(warm_recall(client, &good, &hit, NULL, NULL), WARM_E_INVALID);
  cr_assert_code(warm_recall(client, &good, &hit, &count, &info), WARM_E_INVALID);
  cr_assert_code(warm_recall_many(client, &good, 0, &hit, &count, NULL), WARM_E_INVALID);
  cr_assert_code(warm_recall_open(client, &good, 1, NULL), WARM_E_INVALID);
  cr_assert_code(warm_recall_open(client, &good, 0, &scan), WARM_E_INVALID);
  cr_assert_code(warm_recall_work(NULL), WARM_E_INVALID);
  cr_assert_code(warm_recall_close(NULL, &hit, &count, NULL), WARM_E_INVALID);
  cr_assert_code(warm_hits_release(client, NULL, 1), WARM_E_INVALID);
  cr_assert_code(warm_hits_release(NULL, &hit, 0), WARM_E_INVALID);
  cr_assert_ok(warm_hits_release(client, NULL, 0));
}

Test(recall, a_limit_of_1_and_the_largest_are_served, .init = with_records, .fini = without) {
  for (uint32_t metric = 0; metric < 3; ++metric) {
    warm_query query = query_of(all[9].embedding, metric, 1);
    recall_and_judge(&query);
    query.limit = WARM_RECALL_MAX;
    recall_and_judge(&query);
    query.limit = WARM_RECALL_MAX - 1;
    recall_and_judge(&query);
  }
}

Test(recall, more_hits_than_views_are_left_are_refused_and_none_is_kept, .init = with_records, .fini = without) {
  warm_view* views = malloc(WARM_VIEWS_MAX * sizeof *views);
  enum { kLeft = 40 };
  for (uint32_t i = 0; i < WARM_VIEWS_MAX - kLeft; ++i) {
    views[i] = (warm_view)WARM_VIEW_INIT;
    cr_assert_ok(warm_get(client, all[0].id, strlen(all[0].id), 0, &views[i]));
  }
  float embedding[kDimensions];
  fill(embedding, 0);
  warm_query query = query_of(embedding, WARM_METRIC_COSINE, 100);
  for (int again = 0; again < 3; ++again) {
    query.limit = 100;
    refused(&query, WARM_E_LIMIT, "65536");
    query.limit = 8;
    recall_and_judge(&query);
  }
  for (uint32_t i = 0; i < WARM_VIEWS_MAX - kLeft; ++i) cr_assert_ok(warm_release(client, &views[i]));
  query.limit = 100;
  recall_and_judge(&query);
  free(views);
}
