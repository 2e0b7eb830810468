#define LOG_COMPONENT "apiserver"
#include "apiserver/server.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "kube/object.h"
#include "kube/selector.h"
#include "net/metrics.h"

#include <inttypes.h>
#include <stdio.h>

#define BOOKMARK_MS 60000
#define EVENT_TEXT_MAX (64u << 20)
#define TIMEOUT_MIN_S 1800 /* of watches that name none: twice this at most */

enum event_type { EVENT_ADDED, EVENT_MODIFIED, EVENT_DELETED };
static const char *const event_names[] = {"ADDED", "MODIFIED", "DELETED"};

/* One event as clients get it, written once and shared by all watchers that want it in this form. */
struct line {
    unsigned refs;
    size_t len;
    char text[];
};

struct watcher {
    struct watch_hub *hub;
    struct collection *c;
    struct resource *resource;
    struct watcher *prev, *next; /* of the resource */
    struct watcher *all_prev, *all_next;
    /* the objects that are there at the start, yet to be told */
    struct record **initial;
    size_t n_initial, at_initial;
    uint64_t initial_rev; /* of the bookmark that ends them; 0: none is due */
    uint64_t told;        /* all changes up to this revision were written, as far as they concern the watch */
    bool live;            /* nothing is left to write: changes are written as they come. Else from the history */
    bool blocked;         /* the client is slow: wait until drained */
    bool columns_sent;    /* Table */
    uint64_t bookmark_rev;
    int64_t bookmark_at_ms, end_at_ms;
};

struct watch_hub {
    struct apiserver *s;
    struct watcher *all;
    struct metric *watchers, *cut_off;
};

/* ---- lines ---- */

static struct line *line_new(struct bytes text) {
    struct line *l = xmalloc(sizeof(*l) + text.len);
    l->refs = 1;
    l->len = text.len;
    memcpy(l->text, text.ptr, text.len);
    return l;
}

static void line_unref(struct line *l) {
    if (l && --l->refs == 0)
        free(l);
}

static struct line *event_line(const struct watcher *w, enum event_type type, const struct record *rec, uint64_t rev) {
    const struct collection *c = w->c;
    _cleanup_(buf_free) struct buf out = BUF_INIT(EVENT_TEXT_MAX);
    buf_addf(&out, "{\"type\":\"%s\",\"object\":", event_names[type]);
    render_object(&out, c->kind, rec, rev, c->form, c->q.include, !w->columns_sent);
    buf_add_str(&out, "}\n");
    return line_new(buf_bytes(&out));
}

static struct line *bookmark_line(const struct watcher *w, uint64_t rev, bool initial_end) {
    const struct kind *k = w->c->kind;
    char meta[160];
    snprintf(meta, sizeof(meta), "\"metadata\":{\"resourceVersion\":\"%" PRIu64 "\",\"creationTimestamp\":null%s}", rev,
             initial_end ? ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}" : "");
    _cleanup_(free_p) char *api_version = kind_api_version(k);
    _cleanup_(buf_free) struct buf out = BUF_INIT(4096);
    buf_add_str(&out, "{\"type\":\"BOOKMARK\",\"object\":");
    if (w->c->form == FORM_TABLE)
        buf_addf(&out,
                 "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{\"resourceVersion\":\"%" PRIu64
                 "\"},\"columnDefinitions\":[],\"rows\":[{\"cells\":[],\"object\":{\"kind\":\"PartialObjectMetadata\","
                 "\"apiVersion\":\"meta.k8s.io/v1\",%s}}]}",
                 rev, meta);
    else if (w->c->form == FORM_PARTIAL)
        buf_addf(&out, "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",%s}", meta);
    else
        buf_addf(&out, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",%s}", k->kind, api_version, meta);
    buf_add_str(&out, "}\n");
    return line_new(buf_bytes(&out));
}

/* ---- a watcher's life ---- */

static void watcher_free(struct watcher *w) {
    if (w->prev)
        w->prev->next = w->next;
    else
        w->resource->watchers = w->next;
    if (w->next)
        w->next->prev = w->prev;
    if (w->all_prev)
        w->all_prev->all_next = w->all_next;
    else
        w->hub->all = w->all_next;
    if (w->all_next)
        w->all_next->all_prev = w->all_prev;
    metric_add(w->hub->watchers, -1);
    recordmap_free_snapshot(w->initial, w->n_initial);
    collection_free(w->c);
    free(w);
}

static void watcher_closed(void *arg) {
    watcher_free(arg);
}

static void watcher_end(struct watcher *w) {
    struct http_request *r = w->c->http;
    http_on_close(r, NULL, NULL);
    watcher_free(w);
    http_end(r);
}

static void watcher_cut_off(struct watcher *w) {
    struct http_request *r = w->c->http;
    log_info("watch cut off, its client does not keep up resource=%s client=%s", w->resource->plural,
             stream_peer_addr(http_stream(r)));
    metric_add(w->hub->cut_off, 1);
    http_on_close(r, NULL, NULL);
    watcher_free(w);
    http_abort(r);
}

static void write_line(struct watcher *w, const struct line *l) {
    w->columns_sent = true;
    if (http_write(w->c->http, bytes_of(l->text, l->len)) > 0)
        w->blocked = true;
}

/* The next of the objects that were there at the start. */
static void write_initial(struct watcher *w) {
    struct record *rec = w->initial[w->at_initial];
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = NULL;
    if (collection_match(w->c, rec, &doc)) {
        struct line *l = event_line(w, EVENT_ADDED, rec, 0);
        write_line(w, l);
        line_unref(l);
    }
    record_unref(rec);
    w->initial[w->at_initial++] = NULL;
}

static void write_bookmark(struct watcher *w, uint64_t rev, bool initial_end) {
    bool columns = w->columns_sent;
    struct line *l = bookmark_line(w, rev, initial_end);
    write_line(w, l);
    line_unref(l);
    w->columns_sent = columns;
    w->bookmark_rev = w->told = rev;
}

/* ---- fan-out ---- */

#define FORMS_MAX 12

/* One change on its way to all watchers: parsed at most once, written at most once in each form. */
struct fanout {
    const struct change *change;
    const struct kind *kind; /* that the documents are served forms of */
    yyjson_doc *old_doc, *new_doc;
    struct {
        const struct kind *kind;
        enum answer_form form;
        enum table_include include;
        enum event_type type;
        bool columns;
        struct line *line;
    } lines[FORMS_MAX];
    size_t n_lines;
};

static void fanout_forget_docs(struct fanout *f) {
    yyjson_doc_free(f->old_doc);
    yyjson_doc_free(f->new_doc);
    f->old_doc = f->new_doc = NULL;
}

/* What the change is to this watcher; -1: nothing. */
static int event_for(struct fanout *f, const struct watcher *w) {
    const struct change *c = f->change;
    if (f->kind != w->c->kind) {
        fanout_forget_docs(f);
        f->kind = w->c->kind;
    }
    bool was = c->old && collection_match(w->c, c->old, &f->old_doc);
    bool is = c->new_ && collection_match(w->c, c->new_, &f->new_doc);
    if (is)
        return was ? EVENT_MODIFIED : EVENT_ADDED;
    return was ? EVENT_DELETED : -1;
}

/* The change as a line for this watcher; a reference of the caller's. */
static struct line *line_for(struct fanout *f, const struct watcher *w, enum event_type type) {
    const struct collection *c = w->c;
    bool columns = c->form == FORM_TABLE && !w->columns_sent;
    for (size_t i = 0; i < f->n_lines; i++)
        if (f->lines[i].kind == c->kind && f->lines[i].form == c->form && f->lines[i].include == c->q.include &&
            f->lines[i].type == type && f->lines[i].columns == columns) {
            f->lines[i].line->refs++;
            return f->lines[i].line;
        }
    bool gone = type == EVENT_DELETED;
    struct line *l = event_line(w, type, gone ? f->change->old : f->change->new_, gone ? f->change->rev : 0);
    if (f->n_lines < FORMS_MAX) {
        l->refs++;
        f->lines[f->n_lines].kind = c->kind;
        f->lines[f->n_lines].form = c->form;
        f->lines[f->n_lines].include = c->q.include;
        f->lines[f->n_lines].type = type;
        f->lines[f->n_lines].columns = columns;
        f->lines[f->n_lines++].line = l;
    }
    return l;
}

static void fanout_free(struct fanout *f) {
    fanout_forget_docs(f);
    for (size_t i = 0; i < f->n_lines; i++)
        line_unref(f->lines[i].line);
}

static void fanout_to(struct fanout *f, struct watcher *w) {
    int type = event_for(f, w);
    if (type < 0)
        return;
    struct line *l = line_for(f, w, (enum event_type)type);
    write_line(w, l);
    line_unref(l);
}

static void on_change(void *arg, const struct change *c) {
    struct fanout f = {.change = c};
    for (struct watcher *w = c->resource->watchers; w; w = w->next) {
        if (!w->live)
            continue; /* it takes the change from the history, in its own time */
        w->told = c->rev;
        fanout_to(&f, w);
        w->live = !w->blocked;
    }
    fanout_free(&f);
}

/* ---- catching up ---- */

static bool replay(void *arg, const struct change *c) {
    struct watcher *w = arg;
    w->told = c->rev;
    if (c->resource != w->resource)
        return true;
    struct fanout f = {.change = c};
    fanout_to(&f, w);
    fanout_free(&f);
    return !w->blocked;
}

/* What it has not been told is forgotten: it can only begin anew. */
static bool too_late(const struct watcher *w) {
    return !w->live && w->told < storage_compacted(w->hub->s->storage);
}

/* Writes what is due until the client is slow or nothing is left. */
static void pump(void *arg) {
    struct watcher *w = arg;
    w->blocked = false;
    if (too_late(w)) {
        watcher_cut_off(w);
        return;
    }
    while (!w->blocked && w->at_initial < w->n_initial)
        write_initial(w);
    if (!w->blocked && w->initial_rev) {
        write_bookmark(w, w->initial_rev, true);
        w->initial_rev = 0;
    }
    if (!w->blocked)
        storage_history(w->hub->s->storage, w->told, replay, w);
    w->live = !w->blocked;
}

/* ---- starting ---- */

static struct watcher *watcher_new(struct watch_hub *h, struct collection *c) {
    struct watcher *w = NEW(struct watcher);
    w->hub = h;
    w->c = c;
    w->resource = kind_resource(h->s, c->kind);
    w->next = w->resource->watchers;
    if (w->next)
        w->next->prev = w;
    w->resource->watchers = w;
    w->all_next = h->all;
    if (h->all)
        h->all->all_prev = w;
    h->all = w;
    int64_t now = clock_mono_ms();
    int64_t timeout_s = c->q.timeout_s ? c->q.timeout_s : TIMEOUT_MIN_S + (int64_t)random_below(TIMEOUT_MIN_S);
    w->end_at_ms = now + timeout_s * 1000;
    w->bookmark_at_ms = now + random_jitter(BOOKMARK_MS, 10);
    metric_add(h->watchers, 1);
    return w;
}

/* HTTP 200 and one ERROR event: the client relists. */
static void answer_expired(struct collection *c, uint64_t rev, uint64_t oldest) {
    struct fail f = {0};
    fail_set(&f, 410, "Expired", "too old resource version: %" PRIu64 " (%" PRIu64 ")", rev, oldest);
    size_t len;
    _cleanup_(free_p) char *status = fail_status(&f, &len);
    _cleanup_(buf_free) struct buf out = BUF_INIT(8192);
    buf_add_str(&out, "{\"type\":\"ERROR\",\"object\":");
    buf_add(&out, status, len);
    buf_add_str(&out, "}\n");
    http_start(c->http, 200, "application/json", -1);
    http_write(c->http, buf_bytes(&out));
    http_end(c->http);
    fail_clear(&f);
    collection_free(c);
}

void watch_serve(struct collection *c) {
    struct apiserver *s = c->s;
    uint64_t rev = rv_number(str_or(c->q.rv, "0")), now = storage_revision(s->storage);
    bool initial = c->q.has_initial_events ? c->q.initial_events : rev == 0;
    if (rev && !initial && rev < storage_compacted(s->storage)) {
        answer_expired(c, rev, storage_compacted(s->storage) + 1);
        return;
    }
    struct watcher *w = watcher_new(s->watches, c);
    if (initial)
        w->initial = collection_snapshot(c, &w->n_initial);
    w->told = initial || !rev ? now : rev;
    if (c->q.has_initial_events && initial && c->q.bookmarks)
        w->initial_rev = now;
    http_start(c->http, 200, "application/json", -1);
    http_on_close(c->http, watcher_closed, w);
    http_on_drained(c->http, pump, w);
    pump(w);
}

/* ---- the hub ---- */

struct watch_hub *watch_hub_new(struct apiserver *s) {
    struct watch_hub *h = NEW(struct watch_hub);
    h->s = s;
    h->watchers = metric_get(METRIC_GAUGE, "apiserver_watches", "Watches being served.", NULL);
    h->cut_off = metric_get(METRIC_COUNTER, "apiserver_watches_cut_off_total", "Watches ended for being slow.", NULL);
    storage_on_change(s->storage, on_change, h);
    return h;
}

static void end_or_cut(struct watcher *w) {
    if (w->live)
        watcher_end(w);
    else
        watcher_cut_off(w);
}

void watch_hub_end_all(struct watch_hub *h) {
    while (h->all)
        end_or_cut(h->all);
}

void watch_hub_free(struct watch_hub *h) {
    while (h->all)
        watcher_free(h->all);
    free(h);
}

void watch_hub_tick(struct watch_hub *h) {
    int64_t now = clock_mono_ms();
    uint64_t rev = storage_revision(h->s->storage);
    for (struct watcher *w = h->all, *next; w; w = next) {
        next = w->all_next;
        bool ending = now >= w->end_at_ms;
        if (too_late(w)) {
            watcher_cut_off(w);
            continue;
        }
        if (w->c->q.bookmarks && w->live && rev > w->bookmark_rev && (ending || now >= w->bookmark_at_ms)) {
            write_bookmark(w, rev, false);
            w->bookmark_at_ms = now + BOOKMARK_MS;
            w->live = !w->blocked;
        }
        if (ending)
            end_or_cut(w);
    }
}

void watch_hub_end_kind(struct watch_hub *h, const char *group, const char *plural) {
    for (struct watcher *w = h->all, *next; w; w = next) {
        next = w->all_next;
        if (strcmp(w->c->kind->group, group) == 0 && strcmp(w->c->kind->plural, plural) == 0)
            end_or_cut(w);
    }
}
