/* Is the node short of something? The kubelet's eviction signals, thresholds and conditions. Pure: readings and time
 * are handed in. */
#pragma once

#include "edge/edge_config.h"

enum pressure_signal {
    SIGNAL_MEMORY,
    SIGNAL_NODEFS,
    SIGNAL_NODEFS_INODES,
    SIGNAL_IMAGEFS,
    SIGNAL_IMAGEFS_INODES,
    SIGNAL_PIDS,
    N_SIGNALS
};
enum pressure_kind { PRESSURE_MEMORY, PRESSURE_DISK, PRESSURE_PIDS, N_PRESSURES };

struct signal_reading {
    int64_t available, capacity; /* bytes, inodes, processes; capacity 0: not known, never short */
};

struct pressure_threshold {
    enum pressure_signal signal;
    bool hard;
    int64_t amount, percent; /* percent -1: amount counts */
    int64_t reclaim;         /* once it was passed: so much more must be available before it is over */
    int64_t grace_ms;        /* soft: so long must it be passed */
    int64_t since_ms;        /* passed since; 0: not */
};

#define MAX_THRESHOLDS (2 * N_SIGNALS)

struct pressure {
    struct pressure_threshold thresholds[MAX_THRESHOLDS];
    size_t n_thresholds;
    int64_t transition_ms;
    int64_t last_met_ms[N_PRESSURES]; /* 0: never */
    bool under[N_PRESSURES];          /* the node's conditions, after pressure_observe */
};

/* From evictionHard, evictionSoft and their companions. ERR_INVALID names key and value. */
int pressure_init(struct pressure *p, const struct edged_config *c, struct error *err) MUST_CHECK;
/* Takes in readings. Returns the threshold that something must be done about now, hard ones before soft ones and memory
 * before all; NULL if there is none. now_ms is never 0. */
const struct pressure_threshold *pressure_observe(struct pressure *p, const struct signal_reading r[N_SIGNALS],
                                                  int64_t now_ms);
enum pressure_kind pressure_kind_of(enum pressure_signal s);
const char *pressure_condition(enum pressure_kind k);  /* "MemoryPressure" */
const char *pressure_resource(enum pressure_signal s); /* "memory", "ephemeral-storage", "inodes", "pids" */
/* What must be available, in the signal's unit. */
int64_t pressure_threshold_value(const struct pressure_threshold *t, int64_t capacity);
