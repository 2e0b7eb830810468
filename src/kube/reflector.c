#define LOG_COMPONENT "reflector"
#include "kube/reflector.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "kube/object.h"
#include "kube/object_cache.h"
#include "kube/watch_stream.h"

#define PAGE_SIZE 500
#define MAX_PAGE_BYTES (64 * 1024 * 1024)
#define MAX_EVENT_BYTES (8 * 1024 * 1024) /* API servers take bodies of 3 MiB */
#define LIST_TIMEOUT_MS 60000
#define WATCH_MIN_S 300 /* how long a watch is asked to last: this to twice this, at random */
#define IDLE_TIMEOUT_MS 150000
#define BACKOFF_FIRST_MS 250
#define BACKOFF_MAX_MS 10000 /* so a server that is back is found soon */
#define SHORT_WATCH_MS 1000  /* one that ends sooner and brought nothing is a failure in disguise */
#define GOOD_WATCH_MS 5000   /* one that lasted so long worked, even if it brought nothing */

struct reflector {
    struct kube_client *client;
    char *path, *selectors, *plural; /* selectors: "" or "&labelSelector=..." */
    struct reflector_options o;
    int idle_timeout_ms;
    struct object_cache cache;
    bool synced;

    struct kube_call *list;
    struct http_call *watch;
    struct timer *retry;
    struct backoff backoff;
    struct log_once trouble;
    bool must_list; /* what the retry timer starts: a list, or a watch from rv */

    char *rv;         /* of the last list, event or bookmark */
    char *page_token; /* of the next page */
    unsigned page_size;
    uint32_t generation; /* of the list under way, or of the last one */

    struct watch_stream stream;
    int64_t watch_began;
    bool watch_brought;       /* an event or a bookmark */
    int watch_status;         /* of an ERROR event; 0: none */
    struct error watch_error; /* what we found wrong with it */

    unsigned busy; /* our handlers on the stack */
    bool freed;
};

static void list_start(struct reflector *r);
static void watch_start(struct reflector *r);

static void set_str(char **p, const char *s) {
    char *old = *p;
    *p = xstrdup_null(s);
    free(old);
}

/* ---- life
 * ---------------------------------------------------------------------------------------------------------------- */

static void destroy(struct reflector *r) {
    timer_free(r->retry);
    cache_free(&r->cache);
    watch_stream_free(&r->stream);
    free(r->path);
    free(r->selectors);
    free(r->plural);
    free(r->rv);
    free(r->page_token);
    free(r);
}

static void enter(struct reflector *r) {
    r->busy++;
}

static void leave(struct reflector *r) {
    if (--r->busy == 0 && r->freed)
        destroy(r);
}

void reflector_free(struct reflector *r) {
    if (!r || r->freed)
        return;
    enter(r);
    r->freed = true;
    timer_stop(r->retry);
    kube_call_cancel(TAKE(r->list));
    http_call_cancel(TAKE(r->watch));
    leave(r);
}

/* ---- telling
 * ------------------------------------------------------------------------------------------------------------- */

static void tell(struct reflector *r, enum reflector_event ev, yyjson_val *object, yyjson_val *old) {
    if (!r->freed)
        r->o.event(r->o.arg, ev, object, r->o.keep_objects ? old : NULL);
}

/* The object is gone. last is what is known of it: the event's, or NULL for what was kept. */
static void forget(struct reflector *r, struct cache_entry *e, yyjson_val *last) {
    cache_take(&r->cache, e);
    tell(r, REFLECTOR_DELETED, last ? last : cache_object(e), cache_object(e));
    cache_entry_free(e);
}

static yyjson_doc *kept_of(struct reflector *r, yyjson_doc *whole) {
    yyjson_val *object = yyjson_doc_get_root(whole);
    if (!r->o.keep_objects)
        return object_identity(object);
    return r->o.trim ? r->o.trim(r->o.arg, object) : whole;
}

/* The object is there, as a list or an event shows it. */
static void apply(struct reflector *r, yyjson_val *object, const char *api_version, const char *kind) {
    struct cache_entry *e = cache_find(&r->cache, object_namespace(object), object_name(object));
    if (e && !str_eq(object_uid(cache_object(e)), object_uid(object))) {
        forget(r, e, NULL); /* deleted and made again while we did not look */
        e = NULL;
    }
    if (r->freed)
        return;
    if (e && str_eq(object_rv(cache_object(e)), object_rv(object))) {
        e->generation = r->generation;
        return;
    }
    enum reflector_event ev = e ? REFLECTOR_MODIFIED : REFLECTOR_ADDED;
    yyjson_doc *whole = object_compact(object, api_version, kind);
    yyjson_doc *kept = kept_of(r, whole);
    if (!e)
        e = cache_add(&r->cache, object_namespace(object), object_name(object));
    yyjson_doc *old = e->doc;
    e->doc = kept;
    e->generation = r->generation;
    tell(r, ev, yyjson_doc_get_root(whole), old ? yyjson_doc_get_root(old) : NULL);
    yyjson_doc_free(old);
    if (whole != kept)
        yyjson_doc_free(whole);
}

/* ---- trouble
 * --------------------------------------------------------------------------------------------------------------- */

/* Tries again later, with a list or with a watch. */
static void try_later(struct reflector *r, bool must_list, int retry_after_s) {
    int64_t wait = backoff_next_ms(&r->backoff);
    if (retry_after_s > 0 && wait < (int64_t)retry_after_s * 1000)
        wait = (int64_t)retry_after_s * 1000;
    r->must_list = must_list;
    timer_set(r->retry, wait);
}

static void PRINTF_LIKE(2, 3) complain(struct reflector *r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    _cleanup_(free_p) char *text = xvasprintf(fmt, ap);
    va_end(ap);
    log_once_failed(&r->trouble, LOG_COMPONENT, "%s: %s; trying again until it works", r->plural, text);
}

static void retry_event(void *arg) {
    struct reflector *r = arg;
    if (r->must_list)
        list_start(r);
    else
        watch_start(r);
}

/* ---- list
 * ------------------------------------------------------------------------------------------------------------------ */

static void list_page(struct reflector *r);

static void list_start(struct reflector *r) {
    r->generation++;
    set_str(&r->page_token, NULL);
    set_str(&r->rv, NULL);
    list_page(r);
}

/* The last page has come: what no page has shown is gone. */
static void list_complete(struct reflector *r) {
    struct cache_entry *e, *next;
    HASH_ITER (hh, r->cache.entries, e, next) {
        if (e->generation != r->generation)
            forget(r, e, NULL);
        if (r->freed)
            return;
    }
    r->synced = true;
    if (r->o.synced)
        r->o.synced(r->o.arg);
    if (!r->freed)
        watch_start(r);
}

static void list_failed(struct reflector *r, const struct kube_result *result) {
    if (result->error.code == ERR_TOO_LARGE && r->page_size > 1) {
        r->page_size /= 2;
        log_info("pages are too large; asking for fewer objects at once resource=%s limit=%u", r->plural, r->page_size);
        list_start(r);
        return;
    }
    /* 410: the history behind the page token is gone, so the list starts over; an inconsistent one is of no use. */
    if (result->status != 410 || str_empty(r->page_token))
        complain(r, "cannot list: %s", error_text(&result->error));
    try_later(r, true, result->retry_after_s);
}

/* "PodList" gives "Pod": items of a list do not say what they are. */
static char *item_kind(yyjson_val *list) {
    const char *kind = object_kind(list);
    return str_ends_with(kind, "List") && strlen(kind) > 4 ? xstrndup(kind, strlen(kind) - 4) : NULL;
}

static int list_read(struct reflector *r, yyjson_val *list, struct error *err) {
    _cleanup_(free_p) char *kind = item_kind(list);
    const char *api_version = object_api_version(list);
    const char *rv = object_rv(list);
    yyjson_val *items = json_get(list, "items"), *item;
    size_t i, n;
    if (str_empty(rv) || !(items == NULL || yyjson_is_null(items) || yyjson_is_arr(items)))
        return error_set(err, ERR_INVALID, "the answer is not a list of objects");
    if (!r->rv) /* of the first page: what changes meanwhile is then told by the watch */
        set_str(&r->rv, rv);
    yyjson_arr_foreach (items, i, n, item) {
        if (str_empty(object_name(item)))
            return error_set(err, ERR_INVALID, "the answer holds an object without a name");
        apply(r, item, kind ? api_version : NULL, kind);
        if (r->freed)
            return 0;
    }
    set_str(&r->page_token, json_str(list, "metadata", "continue"));
    return 0;
}

static void list_done(void *arg, struct kube_result *result) {
    struct reflector *r = arg;
    struct error err = ERROR_INIT;
    r->list = NULL;
    enter(r);
    if (result->error.code || !result->body) {
        list_failed(r, result);
    } else if (list_read(r, result->body, &err) < 0) {
        complain(r, "cannot list: %s", error_text(&err));
        try_later(r, true, -1);
    } else if (!r->freed && !str_empty(r->page_token)) {
        list_page(r);
    } else if (!r->freed) {
        list_complete(r);
    }
    leave(r);
}

static void list_page(struct reflector *r) {
    struct buf query = BUF_INIT(256 * 1024);
    buf_addf(&query, "limit=%u%s", r->page_size, r->selectors);
    if (!str_empty(r->page_token)) {
        buf_add_str(&query, "&continue=");
        percent_encode(bytes_str(r->page_token), &query);
    }
    struct kube_request q = {.verb = "GET",
                             .path = r->path,
                             .query = query.ptr,
                             .timeout_ms = LIST_TIMEOUT_MS,
                             .max_body = MAX_PAGE_BYTES,
                             .try_once = true,
                             .done = list_done,
                             .arg = r};
    r->list = kube_call(r->client, &q);
    buf_free(&query);
}

/* ---- watch
 * -------------------------------------------------------------------------------------------------------------------
 */

static bool watch_event(void *arg, const struct watch_event *e) {
    struct reflector *r = arg;
    if (e->type == WATCH_ERROR) {
        r->watch_status = (int)json_int_or(json_get(e->object, "code"), 500);
        error_set(&r->watch_error, ERR_UNAVAILABLE, "%s", str_or(json_str(e->object, "message"), "error event"));
        return false;
    }
    r->watch_brought = true;
    set_str(&r->rv, object_rv(e->object));
    if (e->type == WATCH_DELETED) {
        struct cache_entry *known = cache_find(&r->cache, object_namespace(e->object), object_name(e->object));
        if (known)
            forget(r, known, e->object);
    } else if (e->type != WATCH_BOOKMARK) {
        apply(r, e->object, NULL, NULL);
    }
    return !r->freed;
}

static bool watch_data(void *arg, struct bytes piece) {
    struct reflector *r = arg;
    enter(r);
    int rc = watch_stream_feed(&r->stream, piece, watch_event, r, &r->watch_error);
    bool go_on = rc == 0 && r->watch_status == 0 && !r->freed;
    leave(r);
    return go_on;
}

static void watch_started(void *arg, int status) {
    struct reflector *r = arg;
    if (status == 200)
        log_once_recovered(&r->trouble, LOG_COMPONENT, "%s: watching again", r->plural);
}

/* The watch is over, by an HTTP status or an ERROR event that says so. */
static void watch_refused(struct reflector *r, int status, const char *why, int retry_after_s) {
    bool expired = status == 410;
    bool busy = status == 429 || (status >= 500 && status != 504);
    if (!expired)
        complain(r, "cannot watch: %s", why);
    if (expired && r->watch_brought) {
        list_start(r); /* a list follows at once, unless watches expire again and again without bringing anything */
        return;
    }
    /* 504: the server has not yet seen our version; it may never do so, if it was restored from a backup. */
    try_later(r, !busy, retry_after_s);
}

static void watch_done(void *arg, const struct http_result *result) {
    struct reflector *r = arg;
    int64_t lasted = clock_mono_ms() - r->watch_began;
    r->watch = NULL;
    enter(r);
    if (r->watch_brought || (result->status == 200 && lasted >= GOOD_WATCH_MS))
        backoff_reset(&r->backoff);
    if (r->watch_status) {
        watch_refused(r, r->watch_status, error_text(&r->watch_error), -1);
    } else if (r->watch_error.code) {
        complain(r, "cannot watch: %s", error_text(&r->watch_error));
        try_later(r, true, -1);
    } else if (result->status == 0) {
        /* Cut, or silent for too long: goes on from where it was. */
        if (!r->watch_brought)
            complain(r, "cannot watch: %s", error_text(&result->error));
        try_later(r, false, -1);
    } else if (result->status != 200) {
        struct error err = ERROR_INIT;
        error_from_status(&err, result->status, result->body);
        watch_refused(r, result->status, error_text(&err), result->retry_after_s);
    } else if (lasted < SHORT_WATCH_MS && !r->watch_brought) {
        try_later(r, false, -1);
    } else {
        watch_start(r);
    }
    leave(r);
}

static void watch_start(struct reflector *r) {
    struct buf query = BUF_INIT(256 * 1024);
    struct error err = ERROR_INIT;
    buf_addf(&query, "watch=true&allowWatchBookmarks=true&timeoutSeconds=%u%s&resourceVersion=",
             WATCH_MIN_S + (unsigned)random_below(WATCH_MIN_S), r->selectors);
    percent_encode(bytes_str(r->rv), &query);
    watch_stream_free(&r->stream);
    watch_stream_init(&r->stream, MAX_EVENT_BYTES);
    r->watch_began = clock_mono_ms();
    r->watch_brought = false;
    r->watch_status = 0;
    r->watch_error = (struct error)ERROR_INIT;
    struct kube_stream s = {.path = r->path,
                            .query = query.ptr,
                            .idle_timeout_ms = r->idle_timeout_ms,
                            .data = watch_data,
                            .started = watch_started,
                            .done = watch_done,
                            .arg = r};
    r->watch = kube_stream(r->client, &s, &err);
    if (!r->watch) {
        complain(r, "cannot watch: %s", error_text(&err));
        try_later(r, true, -1);
    }
    buf_free(&query);
}

/* ---- seen from outside
 * ----------------------------------------------------------------------------------------------------------- */

static void add_selector(struct buf *out, const char *name, const char *value) {
    if (str_empty(value))
        return;
    buf_addf(out, "&%s=", name);
    percent_encode(bytes_str(value), out);
}

struct reflector *reflector_new(struct kube_client *k, const struct reflector_options *o) {
    struct reflector *r = NEW(struct reflector);
    struct buf selectors = BUF_INIT(128 * 1024);
    r->client = k;
    r->o = *o;
    r->path = kube_path(o->group, o->version, o->ns, o->plural, NULL, NULL);
    r->plural = xstrdup(o->plural);
    add_selector(&selectors, "labelSelector", o->label_selector);
    add_selector(&selectors, "fieldSelector", o->field_selector);
    r->selectors = buf_take(&selectors, NULL);
    r->idle_timeout_ms = o->idle_timeout_ms ? o->idle_timeout_ms : IDLE_TIMEOUT_MS;
    r->page_size = PAGE_SIZE;
    r->backoff = BACKOFF(BACKOFF_FIRST_MS, BACKOFF_MAX_MS);
    r->retry = timer_new(kube_client_loop(k), retry_event, r);
    watch_stream_init(&r->stream, MAX_EVENT_BYTES);
    list_start(r);
    return r;
}

bool reflector_synced(const struct reflector *r) {
    return r->synced;
}

yyjson_val *reflector_get(const struct reflector *r, const char *ns, const char *name) {
    const struct cache_entry *e = r->o.keep_objects ? cache_find(&r->cache, ns ? ns : "", name) : NULL;
    return e ? cache_object(e) : NULL;
}

bool reflector_has(const struct reflector *r, const char *ns, const char *name) {
    return cache_find(&r->cache, ns ? ns : "", name) != NULL;
}

size_t reflector_count(const struct reflector *r) {
    return HASH_COUNT(r->cache.entries);
}

void reflector_each(const struct reflector *r, void (*fn)(void *arg, yyjson_val *object), void *arg) {
    struct cache_entry *e, *next;
    HASH_ITER (hh, r->cache.entries, e, next)
        fn(arg, cache_object(e));
}
