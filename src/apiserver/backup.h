/* The API server's data folder as a whole: who has it, and one file that holds all of it.
 *
 * A backup is an SQLite file with the server's tables and the files of pki/, secrets and keys included: mode 0600. */
#pragma once

#include "base/error.h"

#include <stdint.h>

/* Takes the folder for this process until the descriptor is closed, or the process ends. ERR_EXISTS: a server runs on
 * it. */
int data_dir_lock(const char *dir, struct error *err) MUST_CHECK;

/* A consistent copy of the folder, also while a server writes to it, which goes on doing so. file must not exist yet.
 * *revision: the last one in it. */
int apiserver_backup(const char *dir, const char *file, uint64_t *revision, struct error *err) MUST_CHECK;

/* Fills the folder from a backup; refused while a server runs on it (ERR_EXISTS). What was there is renamed to
 * *.before-restore-<time>. *revision: where the server goes on, far above everything that clients can have seen: they
 * are told 410 and list anew. */
int apiserver_restore(const char *dir, const char *file, uint64_t *revision, struct error *err) MUST_CHECK;
