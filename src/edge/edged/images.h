/* Container images: is it there, must it be pulled, with which credentials. */
#pragma once

#include "edge/edged/cri.h"
#include "edge/edged/objects.h"

/* ---- names and credentials: pure ---- */

bool image_name_valid(const char *image);
/* imagePullPolicy, or its default: Always for no tag or :latest without digest, else IfNotPresent. */
const char *image_pull_policy(yyjson_val *container);
/* "registry.example:5000", "docker.io": what credentials are looked up by. Owned. */
char *image_registry(const char *image);
/* Credentials for the image in the pod's imagePullSecrets, in their order; NULL-terminated and owned: free each with
 * CRI_FREE, then the list. */
Cri__AuthConfig **image_credentials(const struct pod *p, const struct object_set *objects, const char *image);
void image_credentials_free(Cri__AuthConfig **list);

/* ---- the service ---- */

struct image_result {
    const char *image_ref; /* NULL: failed */
    int64_t uid;           /* -1: not said */
    const char *username;
    bool pulled; /* false: was there */
    int64_t pull_ms;
    const char *reason; /* of a failure: ErrImagePull, ErrImageNeverPull, InvalidImageName, ImageInspectError */
    const char *message;
};

struct images;
/* serialize: one pull at a time (serializeImagePulls); else up to max_parallel (0: 8). */
struct images *images_new(struct loop *l, struct cri *c, bool serialize, int64_t max_parallel);
void images_free(struct images *i); /* no callbacks afterwards; after cri_free */

struct image_request {
    const char *image, *policy;
    Cri__AuthConfig **credentials;                         /* taken; may be NULL */
    void (*pulling)(void *arg);                            /* a pull begins; may be NULL */
    void (*done)(void *arg, const struct image_result *r); /* once, later; r is borrowed */
    void *arg;
};
void images_ensure(struct images *i, const struct image_request *r);
