/* Counters and gauges in Prometheus text format. Values may be changed on any thread; registration happens at start, on
 * one. */
#pragma once

#include "base/bytes.h"

#include <stdint.h>

struct metric; /* lives until exit */
enum metric_kind { METRIC_COUNTER, METRIC_GAUGE };
/* labels: NULL or `code="200",verb="get"`. The same name and labels give the same metric. name and help must be
 * literals. */
struct metric *metric_get(enum metric_kind kind, const char *name, const char *help, const char *labels);
void metric_add(struct metric *m, int64_t n);
void metric_set(struct metric *m, int64_t v);
int64_t metric_value(const struct metric *m);
/* Appends all metrics, and the process's own (process_resident_memory_bytes, process_cpu_seconds_total,
 * process_open_fds, process_start_time_seconds, selvage_build_info). */
int metrics_write(struct buf *out);
