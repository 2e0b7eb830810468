#include "edge/edged/images.h"

#include "base/clock.h"

#include <utlist.h>

#define PULL_TIMEOUT_MS (30 * 60 * 1000)
#define PARALLEL_DEFAULT 8

struct pull {
    struct images *images;
    char *image;
    bool always, never;
    Cri__AuthConfig **credentials;
    size_t attempt; /* index into credentials */
    void (*pulling)(void *arg);
    void (*done)(void *arg, const struct image_result *r);
    void *arg;
    bool running, pulled;
    int64_t begun_ms, pull_ms;
    struct pull *prev, *next;
};

struct images {
    struct loop *loop;
    struct cri *cri;
    size_t parallel, running;
    struct pull *pulls; /* in the order of asking */
};

static void start_next(struct images *im);

static void pull_free(struct pull *p) {
    image_credentials_free(p->credentials);
    free(p->image);
    free(p);
}

static void finish(struct pull *p, const struct image_result *r) {
    struct images *im = p->images;
    DL_DELETE(im->pulls, p);
    if (p->running)
        im->running--;
    p->done(p->arg, r);
    pull_free(p);
    start_next(im);
}

static void fail(struct pull *p, const char *reason, const char *message) {
    finish(p, &(struct image_result){.uid = -1, .reason = reason, .message = message});
}

static void ask_status(struct pull *p, cri_done *done) {
    Cri__ImageSpec spec = CRI__IMAGE_SPEC__INIT;
    Cri__ImageStatusRequest r = CRI__IMAGE_STATUS_REQUEST__INIT;
    spec.image = p->image;
    r.image = &spec;
    cri_call(p->images->cri, CRI_IMAGE_STATUS, &r, 0, done, p);
}

static void on_present(struct pull *p, const Cri__Image *image) {
    finish(p, &(struct image_result){.image_ref = image->id,
                                     .uid = image->uid ? image->uid->value : -1,
                                     .username = image->username,
                                     .pulled = p->pulled,
                                     .pull_ms = p->pull_ms});
}

static void on_status_after_pull(void *arg, int status, const void *reply, const struct error *err) {
    struct pull *p = arg;
    const Cri__ImageStatusResponse *r = reply;
    if (!r || !r->image)
        fail(p, "ImageInspectError", err ? error_text(err) : "the pulled image is not there");
    else
        on_present(p, r->image);
}

static void pull_once(struct pull *p);

static void on_pulled(void *arg, int status, const void *reply, const struct error *err) {
    struct pull *p = arg;
    if (reply) {
        p->pulled = true;
        p->pull_ms = clock_mono_ms() - p->begun_ms;
        ask_status(p, on_status_after_pull);
        return;
    }
    if (p->credentials && p->credentials[p->attempt] && p->credentials[p->attempt + 1]) {
        p->attempt++;
        pull_once(p);
        return;
    }
    char message[700];
    snprintf(message, sizeof(message), "failed to pull image \"%s\": %s", p->image, error_text(err));
    fail(p, "ErrImagePull", message);
}

static void pull_once(struct pull *p) {
    Cri__ImageSpec spec = CRI__IMAGE_SPEC__INIT;
    Cri__PullImageRequest r = CRI__PULL_IMAGE_REQUEST__INIT;
    spec.image = p->image;
    r.image = &spec;
    r.auth = p->credentials ? p->credentials[p->attempt] : NULL;
    cri_call(p->images->cri, CRI_PULL_IMAGE, &r, PULL_TIMEOUT_MS, on_pulled, p);
}

static void start_next(struct images *im) {
    struct pull *p;
    DL_FOREACH (im->pulls, p) {
        if (im->running >= im->parallel)
            return;
        if (!p->running && p->begun_ms != 0) { /* waits for its turn */
            p->running = true;
            im->running++;
            p->begun_ms = clock_mono_ms();
            if (p->pulling)
                p->pulling(p->arg);
            pull_once(p);
        }
    }
}

static void on_status(void *arg, int status, const void *reply, const struct error *err) {
    struct pull *p = arg;
    const Cri__ImageStatusResponse *r = reply;
    char message[700];
    if (!r) {
        snprintf(message, sizeof(message), "failed to inspect image \"%s\": %s", p->image, error_text(err));
        fail(p, "ImageInspectError", message);
        return;
    }
    if (r->image && !p->always) {
        on_present(p, r->image);
        return;
    }
    if (p->never) {
        snprintf(message, sizeof(message), "Container image \"%s\" is not present with pull policy of Never", p->image);
        fail(p, "ErrImageNeverPull", message);
        return;
    }
    p->begun_ms = clock_mono_ms();
    start_next(p->images);
}

static void on_invalid(void *arg) {
    struct pull *p = arg;
    char message[700];
    snprintf(message, sizeof(message), "Failed to apply default image tag \"%.500s\": couldn't parse image name",
             p->image);
    fail(p, "InvalidImageName", message);
}

void images_ensure(struct images *im, const struct image_request *r) {
    struct pull *p = NEW(struct pull);
    p->images = im;
    p->image = xstrdup(str_or(r->image, ""));
    p->always = str_eq(r->policy, "Always");
    p->never = str_eq(r->policy, "Never");
    p->credentials = r->credentials;
    p->pulling = r->pulling;
    p->done = r->done;
    p->arg = r->arg;
    DL_APPEND(im->pulls, p);
    if (!image_name_valid(p->image)) {
        loop_post(im->loop, on_invalid, p);
        return;
    }
    ask_status(p, on_status);
}

struct images *images_new(struct loop *l, struct cri *c, bool serialize, int64_t max_parallel) {
    struct images *im = NEW(struct images);
    im->loop = l;
    im->cri = c;
    im->parallel = serialize ? 1 : max_parallel > 0 ? (size_t)max_parallel : PARALLEL_DEFAULT;
    return im;
}

void images_free(struct images *im) {
    if (!im)
        return;
    struct pull *p, *tmp;
    DL_FOREACH_SAFE (im->pulls, p, tmp) {
        DL_DELETE(im->pulls, p);
        pull_free(p);
    }
    free(im);
}
