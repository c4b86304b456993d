/* What WARM_VERIFY finds and what WARM_COPY survives: bytes that were changed, or taken away, behind everybody's back. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/abi/memories.h"

TestSuite(damage, .timeout = 120);

static support_daemon* daemon_;
static warm_client* client;

static void with_daemon(void) {
  daemon_ = support_daemon_start(TEST_DIMENSIONS, 4096, 0);
  client = support_daemon_open(daemon_);
}
static void without_daemon(void) {
  warm_close(client);
  support_daemon_free(daemon_);
}

static const char kContent[] = "some content that nothing else in the store looks like";

static warm_memory put(const char* id) {
  warm_memory memory = memory_of_text(id, 5);
  memory_set_content(&memory, kContent, sizeof kContent);
  cr_assert_ok(warm_put(client, &memory, NULL));
  return memory;
}

static int get(const char* id, uint32_t flags) {
  warm_view view = WARM_VIEW_INIT;
  const int code = warm_get(client, id, strlen(id), flags, &view);
  if (code == WARM_OK) cr_assert_ok(warm_release(client, &view));
  return code;
}

/* Every file of the store that matches. */
static glob_t files_of_store(const char* pattern) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", support_daemon_store(daemon_), pattern);
  glob_t found;
  cr_assert_eq(glob(path, 0, NULL, &found), 0, "%s", path);
  return found;
}

/* Flips one bit wherever these bytes stand in the store's files; how often. */
static int flip_a_bit_of(const char* pattern, const void* bytes, size_t n, size_t at) {
  glob_t files = files_of_store(pattern);
  int flipped = 0;
  for (size_t i = 0; i < files.gl_pathc; ++i) {
    struct stat status;
    const int file = open(files.gl_pathv[i], O_RDWR | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) != 0) continue;
    char* map = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (map == MAP_FAILED) continue;
    char* found = memmem(map, (size_t)status.st_size, bytes, n);
    if (found != NULL) {
      found[at] = (char)(found[at] ^ 1);
      ++flipped;
    }
    munmap(map, (size_t)status.st_size);
  }
  globfree(&files);
  return flipped;
}

static void take_away(const char* pattern, off_t all_but) {
  glob_t files = files_of_store(pattern);
  for (size_t i = 0; i < files.gl_pathc; ++i) {
    cr_assert_eq(truncate(files.gl_pathv[i], all_but), 0);
  }
  globfree(&files);
}

Test(damage, unknown_flags_of_a_read_are_refused, .init = with_daemon, .fini = without_daemon) {
  put("flags");
  for (uint32_t bit = 1; bit != 0; bit <<= 1) {
    const int code = get("flags", bit);
    if (bit <= WARM_COPY) {
      cr_assert_eq(code, WARM_OK, "flag %#x: %s", bit, warm_last_error());
    } else {
      cr_assert_eq(code, WARM_E_INVALID, "flag %#x", bit);
      cr_assert_not_null(strstr(warm_last_error(), "WARM_VERIFY"), "%s", warm_last_error());
    }
  }
}

Test(damage, verify_finds_one_bit_of_embedding_or_content_and_a_plain_get_does_not, .init = with_daemon, .fini = without_daemon) {
  const warm_memory row = put("row");
  cr_assert_eq(get("row", WARM_VERIFY), WARM_OK);
  cr_assert_eq(get("row", WARM_VERIFY | WARM_COPY), WARM_OK);
  cr_assert_eq(flip_a_bit_of("warm.tier", row.embedding, TEST_DIMENSIONS * sizeof(float), 21), 1);
  cr_assert_eq(get("row", 0), WARM_OK);
  cr_assert_eq(get("row", WARM_COPY), WARM_OK);
  cr_assert_eq(get("row", WARM_VERIFY), WARM_E_CORRUPT);
  cr_assert_not_null(strstr(warm_last_error(), "id row"), "%s", warm_last_error());
  cr_assert_eq(get("row", WARM_VERIFY | WARM_COPY), WARM_E_CORRUPT);

  put("content");
  cr_assert_eq(get("content", WARM_VERIFY), WARM_OK);
  cr_assert_eq(flip_a_bit_of("content/*.seg", "contentsome content", 19, 11), 1);
  cr_assert_eq(get("content", 0), WARM_OK);
  cr_assert_eq(get("content", WARM_VERIFY), WARM_E_CORRUPT);
  cr_assert_eq(get("content", WARM_VERIFY | WARM_COPY), WARM_E_CORRUPT);
  cr_assert_ok(warm_close(client)); /* no view was left behind by any of these */
  client = support_daemon_open(daemon_);
}

Test(damage, an_id_that_fails_its_checksum_is_corrupt_and_not_another_id, .init = with_daemon, .fini = without_daemon) {
  put("an id to be damaged");
  cr_assert_eq(flip_a_bit_of("content/*.seg", "an id to be damaged", 19, 3), 1);
  cr_assert_eq(get("an id to be damaged", 0), WARM_E_CORRUPT);
  cr_assert_eq(get("an id to be damaged", WARM_COPY), WARM_E_CORRUPT);
  cr_assert_code(warm_exists(client, "an id to be damaged", 19), WARM_E_CORRUPT);
}

Test(damage, a_copy_shows_the_same_and_stays_while_everything_goes, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = put("copied");
  warm_view view = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, "copied", 6, WARM_COPY, &view));
  for (uint32_t i = 0; i < 6000; ++i) put("copied"); /* more than the store has slots */
  const char* differs = memory_view_differs(&memory, &view);
  cr_assert_null(differs, "%s", differs);
  uint32_t state = 99;
  cr_assert_ok(warm_view_check(client, &view, &state));
  cr_assert_eq(state, WARM_VIEW_REPLACED);
  warm_stats stats = WARM_STATS_INIT;
  cr_assert_ok(warm_stats_get(client, &stats));
  cr_assert_eq(stats.slots_held, 0, "a copy holds a slot back");
  cr_assert_code(warm_close(client), WARM_E_BUSY);
  warm_view twin = view;
  cr_assert_ok(warm_release(client, &view));
  cr_assert_ok(warm_release(client, &twin));
}

static int end_of_child(int pid) {
  int status = 0;
  cr_assert_eq(waitpid(pid, &status, 0), pid);
  return status;
}

/* A plain get meets the signal, in a child with a client of its own; a copy says what happened. */
static void taken_away(const char* pattern, off_t all_but) {
  put("gone");
  int ready[2], go[2];
  cr_assert(pipe(ready) == 0 && pipe(go) == 0);
  const int child = fork();
  cr_assert_geq(child, 0);
  if (child == 0) {
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGBUS, SIG_DFL);
    warm_view view = WARM_VIEW_INIT;
    if (warm_get(client, "gone", 4, 0, &view) != WARM_OK || warm_release(client, &view) != WARM_OK) _exit(2);
    char byte = 0;
    if (write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) != 1) _exit(3);
    if (warm_get(client, "gone", 4, 0, &view) != WARM_OK) _exit(4);
    _exit(*(volatile const float*)view.embedding != 0.0f ? 5 : 6);
  }
  char byte = 0;
  cr_assert_eq(read(ready[0], &byte, 1), 1);
  cr_assert_eq(get("gone", WARM_COPY), WARM_OK);
  support_daemon_kill(daemon_); /* or the signal would be the daemon's */
  take_away(pattern, all_but);
  cr_assert_eq(get("gone", WARM_COPY), WARM_E_CORRUPT);
  cr_assert_not_null(strstr(warm_last_error(), "fault"), "%s", warm_last_error());
  cr_assert_not_null(strstr(warm_last_error(), "id gone"), "%s", warm_last_error());
  cr_assert_eq(write(go[1], "g", 1), 1);
  const int status = end_of_child(child);
  cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "a plain read ended with status 0x%x", (unsigned)status);
}

Test(damage, a_copy_of_content_that_was_taken_away_is_an_error_and_no_signal, .init = with_daemon, .fini = without_daemon) {
  taken_away("content/*.seg", 0);
}
Test(damage, a_copy_of_an_embedding_that_was_taken_away_is_an_error_and_no_signal, .init = with_daemon, .fini = without_daemon) {
  taken_away("warm.tier", 65536 + 1024 * 64);
}
Test(damage, a_copy_of_a_line_that_was_taken_away_is_an_error_and_no_signal, .init = with_daemon, .fini = without_daemon) {
  taken_away("warm.tier", 65536);
}

Test(damage, a_kernel_that_does_not_read_for_us_is_said_to_be_so, .init = with_daemon, .fini = without_daemon) {
  put("forbidden");
  const int child = fork();
  cr_assert_geq(child, 0);
  if (child == 0) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(2);
    warm_view view = WARM_VIEW_INIT;
    if (warm_get(client, "forbidden", 9, WARM_COPY, &view) != WARM_E_UNSUPPORTED) _exit(3);
    if (strstr(warm_last_error(), "process_vm_readv") == NULL) _exit(4);
    if (warm_get(client, "forbidden", 9, 0, &view) != WARM_OK) _exit(5);
    _exit(warm_release(client, &view) != WARM_OK);
  }
  const int status = end_of_child(child);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status 0x%x", (unsigned)status);
}
