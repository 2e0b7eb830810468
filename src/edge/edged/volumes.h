/* A pod's volumes. What is to be made is planned on the loop, where the pod and its objects are known (pure), and made
 * on the task pool, which sees copies only. Layout as the kubelet's: <pod dir>/volumes/kubernetes.io~<type>/<name>.
 *
 * hostPath data is never touched by clean-up; nothing is removed while something is mounted beneath the folder. */
#pragma once

#include "edge/edged/atomic_writer.h"
#include "edge/edged/field_ref.h"
#include "edge/edged/objects.h"

struct volume_plan;
/* NULL with the reason if a required object or key is missing (ERR_NOT_FOUND; `volume "x": configmap "y" not found`).
 */
struct volume_plan *volume_plan_new(const struct field_context *c, const struct object_set *objects,
                                    const char *pod_dir, struct error *err) MUST_CHECK;
/* Makes or refreshes everything; may be repeated. Blocking. */
int volume_plan_apply(const struct volume_plan *p, struct error *err) MUST_CHECK;
void volume_plan_free(struct volume_plan *p);
/* The soonest moment (wall clock, seconds) at which a token in it should be renewed; 0: never. */
int64_t volume_plan_renew_at(const struct volume_plan *p);

/* Where the volume's content is on the host. Owned; NULL for a volume that the pod has not. */
char *volume_host_path(const struct pod *p, const char *pod_dir, const char *volume_name);
/* Volumes whose content is ours: mounted read-only into containers. */
bool volume_is_read_only(const struct pod *p, const char *volume_name);
bool pod_has_refreshed_volumes(const struct pod *p); /* configMap, secret, downwardAPI, projected */

/* Unmounts what is mounted beneath pod_dir and removes it. Refuses to remove while a mount is left. Blocking. */
int pod_dir_remove(const char *pod_dir, struct error *err) MUST_CHECK;
int64_t pod_fs_group(const struct pod *p); /* -1: none */

/* Takes away what sub_path_bind made beneath root for instances of a container that are dead. Blocking. */
void sub_paths_release(const char *root);
/* Binds <volume dir>/<sub_path> (made if missing, never leaving the volume) to target. Blocking. */
int sub_path_bind(const char *volume_dir, const char *sub_path, const char *target, struct error *err) MUST_CHECK;
