#include "base/yaml.h"

#include "base/str.h"
#include "base/yaml_scalar.h"

#include <math.h>
#include <stdlib.h>
#include <yaml.h>

/* One per value, in the order of the text; node 0 is the document. A tree by index, so that a path finds its line. */
struct line_node {
    char *key; /* of a member of an object; NULL otherwise */
    uint32_t line;
    uint32_t index; /* of an item of a list */
    uint32_t first_child, last_child, next_sibling;
};
struct yaml_lines {
    struct line_node *nodes;
    uint32_t count, cap;
};

struct anchor {
    char *name;
    yyjson_mut_val *value;
    size_t weight; /* nodes in it */
    bool open;     /* its end was not seen yet */
};

struct frame {
    yyjson_mut_val *container;
    yyjson_mut_val *key; /* the member whose value comes next; NULL: a key comes next */
    uint32_t node;
    uint32_t key_line, items;
    size_t weight_before;
    int anchor; /* index of the anchor on this container, or -1 */
};

struct builder {
    yaml_parser_t parser;
    const char *name;
    yyjson_mut_doc *doc;
    struct yaml_lines *lines;
    struct frame stack[YAML_MAX_DEPTH];
    size_t depth;
    struct anchor *anchors;
    size_t n_anchors;
    size_t weight; /* nodes so far, aliases counted as what they stand for */
};

static void lines_free(struct yaml_lines *l) {
    if (!l)
        return;
    for (uint32_t i = 0; i < l->count; i++)
        free(l->nodes[i].key);
    free(l->nodes);
    free(l);
}

static uint32_t lines_add(struct yaml_lines *l, const struct frame *parent, uint32_t line) {
    if (l->count == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->nodes = xreallocarray(l->nodes, l->cap, sizeof(*l->nodes));
    }
    uint32_t self = l->count++;
    struct line_node *n = &l->nodes[self];
    *n = (struct line_node){.line = line};
    if (parent) {
        if (parent->key) {
            n->key = xmemdup(yyjson_mut_get_str(parent->key), yyjson_mut_get_len(parent->key));
            n->line = parent->key_line;
        }
        n->index = parent->items;
        struct line_node *up = &l->nodes[parent->node];
        if (up->last_child)
            l->nodes[up->last_child].next_sibling = self;
        else
            up->first_child = self;
        up->last_child = self;
    }
    return self;
}

static int refuse(const struct builder *b, size_t line, enum error_code code, const char *what, struct error *err) {
    return error_set(err, code, "%s:%zu: %s", b->name, line, what);
}

static int parser_refused(const struct builder *b, struct error *err) {
    const yaml_parser_t *p = &b->parser;
    size_t line = p->error == YAML_READER_ERROR ? 0 : p->problem_mark.line + 1;
    const char *problem = p->problem ? p->problem : "not valid YAML";
    if (line == 0)
        return error_set(err, ERR_INVALID, "%s: byte %zu: %s", b->name, p->problem_offset, problem);
    return error_set(err, ERR_INVALID, "%s:%zu: not valid YAML: %s", b->name, line, problem);
}

/* Counts nodes: both what the text holds and what aliases make of it have to stay small. */
static int add_weight(struct builder *b, size_t n, size_t line, struct error *err) {
    b->weight += n;
    if (b->weight > YAML_MAX_NODES)
        return refuse(b, line, ERR_TOO_LARGE, "too many values", err);
    return 0;
}

static int take_key(struct builder *b, struct frame *f, yyjson_mut_val *v, size_t line, struct error *err) {
    if (!yyjson_mut_is_str(v))
        return refuse(b, line, ERR_INVALID, "a key must be a plain text", err);
    f->key = v;
    f->key_line = (uint32_t)line;
    return 0;
}

/* Hangs a finished scalar, a copy, or an empty container into what is open. *node receives its line node. */
static int place(struct builder *b, yyjson_mut_val *v, size_t line, uint32_t *node, struct error *err) {
    if (b->depth == 0) {
        yyjson_mut_doc_set_root(b->doc, v);
        *node = lines_add(b->lines, NULL, (uint32_t)line);
        return 0;
    }
    struct frame *f = &b->stack[b->depth - 1];
    *node = lines_add(b->lines, f, (uint32_t)line);
    f->items++;
    bool ok;
    if (yyjson_mut_is_arr(f->container)) {
        ok = yyjson_mut_arr_append(f->container, v);
    } else {
        ok = yyjson_mut_obj_add(f->container, f->key, v);
        f->key = NULL;
    }
    if (!ok)
        panic("out of memory building a YAML document");
    return 0;
}

static int remember_anchor(struct builder *b, const yaml_char_t *name, yyjson_mut_val *v, bool open) {
    b->anchors = xreallocarray(b->anchors, b->n_anchors + 1, sizeof(*b->anchors));
    b->anchors[b->n_anchors] =
        (struct anchor){.name = xstrdup((const char *)name), .value = v, .weight = 1, .open = open};
    return (int)b->n_anchors++;
}

static bool key_comes_next(const struct builder *b) {
    return b->depth > 0 && yyjson_mut_is_obj(b->stack[b->depth - 1].container) && !b->stack[b->depth - 1].key;
}

static yyjson_mut_val *string_value(struct builder *b, struct bytes s) {
    yyjson_mut_val *v = yyjson_mut_strncpy(b->doc, s.ptr, s.len);
    if (!v)
        panic("out of memory building a YAML document");
    return v;
}

static yyjson_mut_val *scalar_value(struct builder *b, struct bytes text) {
    struct yaml_scalar s = yaml_scalar_resolve(text);
    switch (s.type) {
    case YAML_SCALAR_NULL:
        return yyjson_mut_null(b->doc);
    case YAML_SCALAR_BOOL:
        return yyjson_mut_bool(b->doc, s.boolean);
    case YAML_SCALAR_INT:
        return yyjson_mut_sint(b->doc, s.integer);
    case YAML_SCALAR_FLOAT:
        return yyjson_mut_real(b->doc, s.real);
    default:
        return string_value(b, text);
    }
}

static int on_scalar(struct builder *b, const yaml_event_t *e, size_t line, struct error *err) {
    struct bytes text = {(const char *)e->data.scalar.value, e->data.scalar.length};
    if (text.len && memchr(text.ptr, 0, text.len))
        return refuse(b, line, ERR_INVALID, "a text must not hold a NUL", err);
    if (add_weight(b, 1, line, err) < 0)
        return -1;
    if (key_comes_next(b))
        return take_key(b, &b->stack[b->depth - 1], string_value(b, text), line, err);
    const char *tag = (const char *)e->data.scalar.tag;
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !str_eq(tag, YAML_STR_TAG) && !str_eq(tag, "!");
    yyjson_mut_val *v = plain ? scalar_value(b, text) : string_value(b, text);
    if (e->data.scalar.anchor)
        remember_anchor(b, e->data.scalar.anchor, v, false);
    uint32_t node;
    return place(b, v, line, &node, err);
}

static int on_alias(struct builder *b, const yaml_event_t *e, size_t line, struct error *err) {
    for (size_t i = b->n_anchors; i-- > 0;) { /* the newest of that name counts */
        struct anchor *a = &b->anchors[i];
        if (!str_eq(a->name, (const char *)e->data.alias.anchor))
            continue;
        if (a->open)
            return refuse(b, line, ERR_INVALID, "an alias stands inside of what it names", err);
        if (add_weight(b, a->weight, line, err) < 0)
            return -1;
        yyjson_mut_val *copy = yyjson_mut_val_mut_copy(b->doc, a->value);
        if (!copy)
            panic("out of memory building a YAML document");
        if (key_comes_next(b))
            return take_key(b, &b->stack[b->depth - 1], copy, line, err);
        uint32_t node;
        return place(b, copy, line, &node, err);
    }
    return refuse(b, line, ERR_INVALID, "an alias names nothing that stands before it", err);
}

static int on_container_start(struct builder *b, bool list, const yaml_char_t *anchor, size_t line, struct error *err) {
    if (b->depth == YAML_MAX_DEPTH)
        return refuse(b, line, ERR_TOO_LARGE, "nested too deeply", err);
    if (key_comes_next(b))
        return refuse(b, line, ERR_INVALID, "a key must be a plain text", err);
    size_t before = b->weight;
    if (add_weight(b, 1, line, err) < 0)
        return -1;
    yyjson_mut_val *v = list ? yyjson_mut_arr(b->doc) : yyjson_mut_obj(b->doc);
    uint32_t node;
    if (place(b, v, line, &node, err) < 0)
        return -1;
    b->stack[b->depth++] = (struct frame){.container = v,
                                          .node = node,
                                          .weight_before = before,
                                          .anchor = anchor ? remember_anchor(b, anchor, v, true) : -1};
    return 0;
}

static int compare_keys(const void *a, const void *b) {
    const struct line_node *x = a, *y = b;
    int c = strcmp(x->key, y->key);
    return c ? c : x->line < y->line ? -1 : x->line > y->line;
}

static int refuse_duplicate_keys(const struct builder *b, const struct frame *f, struct error *err) {
    _cleanup_(free_p) struct line_node *members = xcalloc(f->items, sizeof(*members));
    size_t n = 0;
    for (uint32_t i = b->lines->nodes[f->node].first_child; i; i = b->lines->nodes[i].next_sibling)
        members[n++] = b->lines->nodes[i];
    qsort(members, n, sizeof(*members), compare_keys);
    for (size_t i = 1; i < n; i++)
        if (strcmp(members[i - 1].key, members[i].key) == 0)
            return error_set(err, ERR_INVALID, "%s:%u: key \"%s\" stands here again, first in line %u", b->name,
                             members[i].line, members[i].key, members[i - 1].line);
    return 0;
}

static int on_container_end(struct builder *b, struct error *err) {
    struct frame *f = &b->stack[--b->depth];
    if (f->anchor >= 0) {
        b->anchors[f->anchor].open = false;
        b->anchors[f->anchor].weight = b->weight - f->weight_before;
    }
    if (yyjson_mut_is_obj(f->container) && f->items > 1)
        return refuse_duplicate_keys(b, f, err);
    return 0;
}

static int on_event(struct builder *b, const yaml_event_t *e, bool *done, struct error *err) {
    size_t line = e->start_mark.line + 1;
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(b, e, line, err);
    case YAML_ALIAS_EVENT:
        return on_alias(b, e, line, err);
    case YAML_SEQUENCE_START_EVENT:
        return on_container_start(b, true, e->data.sequence_start.anchor, line, err);
    case YAML_MAPPING_START_EVENT:
        return on_container_start(b, false, e->data.mapping_start.anchor, line, err);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_container_end(b, err);
    case YAML_DOCUMENT_END_EVENT:
    case YAML_STREAM_END_EVENT:
        *done = true;
        return 0;
    default:
        return 0;
    }
}

static int build(struct builder *b, struct error *err) {
    bool done = false;
    while (!done) {
        yaml_event_t e;
        if (!yaml_parser_parse(&b->parser, &e))
            return parser_refused(b, err);
        int rc = on_event(b, &e, &done, err);
        yaml_event_delete(&e);
        if (rc < 0)
            return -1;
    }
    return 0;
}

int yaml_parse(struct bytes text, const char *name, struct yaml_doc *out, struct error *err) {
    *out = (struct yaml_doc){0};
    if (text.len > YAML_MAX_SIZE)
        return error_set(err, ERR_TOO_LARGE, "%s: %zu bytes are more than the limit of %u", name, text.len,
                         YAML_MAX_SIZE);
    struct builder b = {.name = name, .doc = yyjson_mut_doc_new(NULL), .lines = NEW(struct yaml_lines)};
    if (!b.doc || !yaml_parser_initialize(&b.parser))
        panic("out of memory reading YAML");
    yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)(text.ptr ? text.ptr : ""), text.len);
    int rc = build(&b, err);
    yaml_parser_delete(&b.parser);
    for (size_t i = 0; i < b.n_anchors; i++)
        free(b.anchors[i].name);
    free(b.anchors);
    if (rc == 0) {
        if (!yyjson_mut_doc_get_root(b.doc)) /* an empty text is null */
            yyjson_mut_doc_set_root(b.doc, yyjson_mut_null(b.doc));
        out->json = yyjson_mut_doc_imut_copy(b.doc, NULL);
        if (!out->json)
            panic("out of memory reading YAML");
        out->lines = TAKE(b.lines);
    }
    lines_free(b.lines);
    yyjson_mut_doc_free(b.doc);
    return rc;
}

void yaml_doc_free(struct yaml_doc *doc) {
    yyjson_doc_free(doc->json);
    lines_free(doc->lines);
    *doc = (struct yaml_doc){0};
}

/* Takes the child's own step off the front of *path: "key" or "[3]", up to the next '.' or '['. Keys may hold dots
 * themselves, so the child says how much of the path is its name. */
static bool take_step(const struct line_node *child, const char **path) {
    const char *p = *path;
    if (child->key) {
        size_t n = strlen(child->key);
        if (strncmp(p, child->key, n) != 0)
            return false;
        p += n;
    } else {
        char step[16];
        int n = snprintf(step, sizeof(step), "[%u]", child->index);
        if (strncmp(p, step, (size_t)n) != 0)
            return false;
        p += n;
    }
    if (*p != 0 && *p != '.' && *p != '[')
        return false;
    *path = *p == '.' ? p + 1 : p;
    return true;
}

unsigned yaml_line(const struct yaml_doc *doc, const char *path) {
    const struct yaml_lines *l = doc->lines;
    if (!l || l->count == 0)
        return 0;
    uint32_t at = 0;
    while (*path) {
        uint32_t child = l->nodes[at].first_child;
        while (child && !take_step(&l->nodes[child], &path))
            child = l->nodes[child].next_sibling;
        if (!child)
            return 0;
        at = child;
    }
    return l->nodes[at].line;
}
