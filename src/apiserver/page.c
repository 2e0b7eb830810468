/* Lists in pages (embedded-api.md 3.4). A continue token says which revision the first page showed and after which
 * object to go on; the later pages are made from the history, so the server keeps nothing for them. */
#include "apiserver/server.h"

#include "base/str.h"
#include "net/tls.h"

#include <inttypes.h>

#define TOKEN_MAX 4096
#define VERSION "selvage/1"

void list_page_free(struct list_page *p) {
    free(p->after_ns);
    free(p->after_name);
    free(p->next);
    *p = (struct list_page){0};
}

/* A token is good as it was given, and for the same collection and selectors only. */
static void fingerprint(const struct collection *c, uint64_t rev, struct bytes after, char out[17]) {
    unsigned char digest[32];
    _cleanup_(free_p) char *text =
        xasprintf("%s\n%s\n%s\n%s\n%s\n%" PRIu64 "\n%.*s", c->kind->group, c->kind->plural, str_or(c->ns, ""),
                  str_or(c->q.label_selector, ""), str_or(c->q.field_selector, ""), rev, (int)after.len, after.ptr);
    sha256(bytes_str(text), digest);
    _cleanup_(buf_free) struct buf hex = BUF_INIT(64);
    hex_encode(bytes_of(digest, 8), &hex);
    memcpy(out, hex.ptr, 17);
}

char *continue_token(const struct collection *c, uint64_t rev, const char *ns, const char *name) {
    char of[17];
    _cleanup_(free_p) char *after = xasprintf("%s/%s", ns, name);
    fingerprint(c, rev, bytes_str(after), of);
    _cleanup_(free_p) char *text = xasprintf(VERSION " %" PRIu64 " %s %s", rev, of, after);
    _cleanup_(buf_free) struct buf token = BUF_INIT(TOKEN_MAX);
    base64url_encode(bytes_str(text), &token);
    return buf_take(&token, NULL);
}

static int bad_token(struct fail *f, const char *why) {
    return fail_bad_request(f, "continue key is not valid: %s", why);
}

static int read_token(struct collection *c, struct fail *f) {
    struct list_page *p = &c->page;
    char of[17];
    _cleanup_(buf_free) struct buf text = BUF_INIT(TOKEN_MAX);
    struct bytes version, rev, hash, ns, name, rest;
    if (strlen(c->q.continue_) > TOKEN_MAX || base64url_decode(bytes_str(c->q.continue_), &text) < 0 ||
        !bytes_cut(buf_bytes(&text), ' ', &version, &rest) || !bytes_eq_str(version, VERSION) ||
        !bytes_cut(rest, ' ', &rev, &rest) || parse_u64(rev, INT64_MAX, &p->rev) < 0 ||
        !bytes_cut(rest, ' ', &hash, &rest) || !bytes_cut(rest, '/', &ns, &name) || memchr(rest.ptr, 0, rest.len))
        return bad_token(f, "it is none of this server's");
    fingerprint(c, p->rev, rest, of);
    if (!bytes_eq_str(hash, of))
        return bad_token(f, "it is not as it was given, or belongs to a list of something else");
    if (p->rev > storage_revision(c->s->storage))
        return bad_token(f, "it is none of this server's");
    p->after_ns = bytes_dup(ns);
    p->after_name = bytes_dup(name);
    return 0;
}

/* The rest of the list can only be had with changes in it: the new token says so by its revision 0. */
static int expired(struct collection *c, struct fail *f) {
    fail_set(f, 410, "Expired",
             "The provided continue parameter is too old to display a consistent list result. You can start a new list "
             "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
             "the results. Continuing with the provided token results in an inconsistent list - objects that were "
             "created, modified, or deleted between the time the first chunk was returned and now may show up in the "
             "list.");
    f->continue_ = continue_token(c, 0, c->page.after_ns, c->page.after_name);
    return -1;
}

int page_prepare(struct collection *c, uint64_t asked, struct fail *f) {
    const struct storage *st = c->s->storage;
    if (!str_empty(c->q.continue_)) {
        if (read_token(c, f) < 0)
            return -1;
        return c->page.rev && c->page.rev < storage_compacted(st) ? expired(c, f) : 0;
    }
    if (str_eq(c->q.rv, "0")) /* any state will do: the whole is one page */
        c->q.limit = 0;
    if (!str_eq(c->q.rv_match, "Exact"))
        return 0;
    c->page.rev = asked;
    if (asked >= storage_compacted(st))
        return 0;
    return fail_set(f, 410, "Expired", "too old resource version: %" PRIu64 " (%" PRIu64 ")", asked,
                    storage_compacted(st) + 1);
}

/* How many of the sorted records stand before the page. */
static size_t pages_before(const struct list_page *p, struct record *const *records, size_t n) {
    size_t lo = 0, hi = p->after_name ? n : 0;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (record_key_cmp(records[mid], p->after_ns, p->after_name) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool matches(const struct collection *c, const struct record *rec) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = NULL;
    return collection_match(c, rec, &doc);
}

/* Keeps the first `limit` records that match, in place; gives how many. *left: those after them. */
static size_t cut(const struct collection *c, struct record **records, size_t n, size_t *left) {
    size_t kept = 0, i = 0;
    for (; i < n && kept < (size_t)c->q.limit; i++) {
        if (matches(c, records[i]))
            records[kept++] = records[i];
        else
            record_unref(records[i]);
    }
    while (i < n && !matches(c, records[i])) /* so that no last page is empty */
        record_unref(records[i++]);
    *left = n - i;
    for (; i < n; i++)
        record_unref(records[i]);
    return kept;
}

struct record **page_take(struct collection *c, size_t *n) {
    struct storage *st = c->s->storage;
    struct list_page *p = &c->page;
    size_t left = 0;
    struct record **records = p->rev && p->rev != storage_revision(st)
                                  ? storage_snapshot(st, kind_resource(c->s, c->kind), c->ns, p->rev, n)
                                  : collection_snapshot(c, n);
    if (!p->rev)
        p->rev = storage_revision(st);
    size_t before = pages_before(p, records, *n);
    for (size_t i = 0; i < before; i++)
        record_unref(records[i]);
    *n -= before;
    if (before > 0)
        memmove(records, records + before, *n * sizeof(struct record *));
    if (c->q.limit > 0 && *n > (size_t)c->q.limit)
        *n = cut(c, records, *n, &left);
    if (left > 0) {
        p->next = continue_token(c, p->rev, records[*n - 1]->ns, records[*n - 1]->name);
        p->left = c->labels || c->fields ? 0 : left; /* with selectors nobody knows */
    }
    return records;
}
