/* metadata.managedFields of stored objects: computed with every write, written for who reads (kube/ownership.h). */
#include "apiserver/crd.h"
#include "apiserver/write.h"

#include "base/clock.h"
#include "base/str.h"

#define SERVER_MANAGER "cloudcore"
#define BEFORE_FIRST_APPLY "before-first-apply"
#define MANAGED_TEXT_MAX (16u << 20)

struct topology managed_topology(const struct kind *k) {
    return k->custom ? topology_custom(k->schema->root) : topology_builtin(k->type);
}

/* Events come and go by the thousand, under two groups that name their members differently; nobody applies them. */
static bool tracked(const struct kind *k) {
    return k->ttl_s == 0;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

void managed_append(struct buf *out, const struct kind *k, const struct record *rec) {
    static const char member[] = ",\"managedFields\":";
    if (rec->owners_len == 0 || !tracked(k))
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    _cleanup_(field_tree_free) struct field_tree tree;
    _cleanup_(ownership_free) struct ownership o;
    _cleanup_(buf_free) struct buf text = BUF_INIT(MANAGED_TEXT_MAX);
    field_tree_init(&tree, yyjson_doc_get_root(doc), managed_topology(k));
    ownership_load(&o, record_owners(rec), &tree);
    if (!ownership_write(&o, &tree, &text) || text.overflowed)
        return;
    buf_add_str(out, member);
    buf_add_bytes(out, buf_bytes(&text));
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static struct manager writer_of(const struct draft *t, const char *api_version) {
    return (struct manager){.name = str_or(t->w->manager, SERVER_MANAGER),
                            .api_version = api_version,
                            .subresource = t->w->subresource,
                            .apply = t->config,
                            .time = clock_wall_s()};
}

/* Who owned what before the write, as it is stored or as the client now says. */
static void ownership_before(const struct draft *t, struct ownership *o, const struct field_tree *tree,
                             const struct manager *who) {
    struct bytes stored = t->old ? record_owners(t->old) : BYTES_EMPTY;
    yyjson_val *sent = t->sent ? json_get(yyjson_doc_get_root(t->sent), "metadata", "managedFields") : NULL;
    yyjson_val *first = yyjson_arr_get_first(sent);
    if (sent && (!first || (yyjson_is_obj(first) && yyjson_obj_size(first) == 0)))
        sent = NULL, stored = BYTES_EMPTY; /* a reset */
    if (sent && ownership_read(o, sent, tree, NULL) == 0)
        return;
    if (stored.len == 0 && t->old && t->config) {
        const struct manager unknown = {
            .name = BEFORE_FIRST_APPLY, .api_version = who->api_version, .subresource = "", .time = who->time};
        ownership_all(o, tree, &unknown);
        return;
    }
    ownership_load(o, stored, tree);
}

void managed_before(const struct draft *t, struct ownership *o, const struct field_tree *tree, int *applier) {
    _cleanup_(free_p) char *api_version = kind_api_version(t->w->kind);
    const struct manager who = writer_of(t, api_version);
    ownership_before(t, o, tree, &who);
    *applier = ownership_find(o, &who);
}

static int settle_trees(struct draft *t, const struct field_tree *tree, const struct field_tree *before,
                        const struct manager *who, struct buf *owners, bool *changed) {
    _cleanup_(ownership_free) struct ownership was, o = {0};
    struct error err = ERROR_INIT;
    int r = 0;
    ownership_before(t, &was, before, who);
    if (t->config) {
        _cleanup_(field_tree_free) struct field_tree config;
        field_tree_init(&config, yyjson_doc_get_root(t->config), managed_topology(t->w->kind));
        r = ownership_apply(&o, tree, &was, before, &config, who, &err);
    } else {
        ownership_update(&o, tree, &was, before, who);
    }
    if (r < 0)
        return fail_bad_request(t->f, "%s", error_text(&err));
    ownership_store(&o, tree, owners);
    if (t->old) {
        _cleanup_(ownership_free) struct ownership stored;
        ownership_load(&stored, record_owners(t->old), before);
        *changed = before->count != tree->count || !ownership_same(&stored, &o, tree);
    }
    return 0;
}

/* text NULL: the object itself stays as it is. */
int managed_settle(struct draft *t, struct bytes text, struct buf *owners, bool *changed) {
    const struct kind *k = t->w->kind;
    _cleanup_(free_p) char *api_version = kind_api_version(k);
    const struct manager who = writer_of(t, api_version);
    bool simple = !t->config && !t->sent;
    *changed = false;
    if (!tracked(k))
        return 0;
    if (simple && (!t->old || (text.ptr && ownership_stored_sole(record_owners(t->old), &who)))) {
        ownership_store_sole(&who, owners);
        return 0;
    }
    if (simple && !text.ptr) {
        buf_add_bytes(owners, record_owners(t->old));
        return 0;
    }
    _cleanup_(yyjson_doc_free_p) yyjson_doc *was = t->old ? record_parse(t->old) : json_parse(BYTES_LIT("{}"), 2, NULL);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *now = text.ptr ? yyjson_read(text.ptr, text.len, 0) : NULL;
    _cleanup_(field_tree_free) struct field_tree before, tree;
    field_tree_init(&before, yyjson_doc_get_root(was), managed_topology(k));
    field_tree_init(&tree, yyjson_doc_get_root(now ? now : was), managed_topology(k));
    return settle_trees(t, &tree, &before, &who, owners, changed);
}
