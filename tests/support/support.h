/* The store and the daemon of a test that is written in C. Whatever these functions cannot do ends the test process. */
#ifndef WARMTIER_TESTS_SUPPORT_H
#define WARMTIER_TESTS_SUPPORT_H

#include <stdint.h>

#include "warmtier/warmtier.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct support_daemon support_daemon;

/* A new store with a running daemon; content_bytes_max 0: the daemon's own cap. */
support_daemon* support_daemon_start(uint32_t dimensions, uint64_t capacity, uint64_t content_bytes_max);
/* Stops the daemon in order, or kills it, and starts it again. */
void support_daemon_stop_and_start(support_daemon* daemon);
void support_daemon_kill_and_start(support_daemon* daemon);
void support_daemon_kill(support_daemon* daemon);
void support_daemon_run(support_daemon* daemon);
const char* support_daemon_socket(const support_daemon* daemon);
const char* support_daemon_store(const support_daemon* daemon);
int support_daemon_pid(const support_daemon* daemon);
/* An open client of it. */
warm_client* support_daemon_open(const support_daemon* daemon);
void support_daemon_free(support_daemon* daemon);

#ifdef __cplusplus
}
#endif
#endif
