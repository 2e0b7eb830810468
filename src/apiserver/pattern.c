#include "apiserver/pattern.h"

#include "base/mem.h"
#include "base/str.h"

#include <ctype.h>

#define MAX_NODES 2000
#define MAX_RANGES 4000
#define MAX_DEPTH 100
#define MAX_REPEAT 1000 /* as RE2 */
#define FOREVER UINT32_MAX
#define LAST_CHARACTER 0x10ffff

enum node_type { NODE_EMPTY, NODE_CLASS, NODE_CAT, NODE_ALT, NODE_REPEAT, NODE_ASSERT };
enum assertion { AT_START, AT_END, AT_WORD_EDGE, NOT_WORD_EDGE };

struct range {
    uint32_t low, high;
};
struct node {
    enum node_type type;
    uint32_t left, right; /* nodes; of a class its ranges: first, count */
    uint32_t min, max;    /* of a repetition; min of an assertion: which */
    bool negated;
};
enum step_type { STEP_CLASS, STEP_SPLIT, STEP_JUMP, STEP_ASSERT, STEP_MATCH };
struct step {
    uint8_t type;
    bool negated;
    uint32_t a, b; /* targets; of a class its ranges: first, count */
};
struct pattern {
    struct range *ranges;
    uint32_t n_ranges;
    struct step *steps;
    uint32_t n_steps;
};

/* ---- parsing ---------------------------------------------------------------------------------------------------- */

struct parser {
    struct bytes rest;
    struct node nodes[MAX_NODES];
    uint32_t n_nodes, n_ranges;
    struct range ranges[MAX_RANGES];
    bool ignore_case, dot_all;
    struct error *err;
    bool failed;
};

static uint32_t fail(struct parser *p, enum error_code code, const char *what) {
    if (!p->failed)
        error_set(p->err, code, "%s", what);
    p->failed = true;
    return 0;
}

static uint32_t add_node(struct parser *p, struct node n) {
    if (p->n_nodes == MAX_NODES)
        return fail(p, ERR_TOO_LARGE, "the pattern is too long");
    p->nodes[p->n_nodes] = n;
    return p->n_nodes++;
}

static bool starts(const struct parser *p, const char *text) {
    return bytes_starts_with(p->rest, text);
}

static bool take(struct parser *p, const char *text) {
    if (!starts(p, text))
        return false;
    size_t n = strlen(text);
    p->rest = bytes_of(p->rest.ptr + n, p->rest.len - n);
    return true;
}

static uint32_t decode(struct bytes text, size_t *len) {
    size_t n = utf8_length(text);
    const unsigned char *s = (const unsigned char *)text.ptr;
    *len = n ? n : 1;
    if (n < 2)
        return s[0];
    uint32_t c = s[0] & (0x7f >> n);
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (s[i] & 0x3f);
    return c;
}

static uint32_t take_character(struct parser *p) {
    size_t n;
    if (p->rest.len == 0)
        return fail(p, ERR_INVALID, "the pattern ends too early");
    uint32_t c = decode(p->rest, &n);
    p->rest = bytes_of(p->rest.ptr + n, p->rest.len - n);
    return c;
}

static void add_range(struct parser *p, uint32_t low, uint32_t high) {
    if (p->n_ranges + 2 >= MAX_RANGES) {
        fail(p, ERR_TOO_LARGE, "the pattern is too long");
        return;
    }
    p->ranges[p->n_ranges++] = (struct range){low, high};
    uint32_t a = low > 'A' ? low : 'A', z = high < 'Z' ? high : 'Z';
    if (p->ignore_case && a <= z)
        p->ranges[p->n_ranges++] = (struct range){a + 32, z + 32};
    a = low > 'a' ? low : 'a', z = high < 'z' ? high : 'z';
    if (p->ignore_case && a <= z && p->n_ranges < MAX_RANGES)
        p->ranges[p->n_ranges++] = (struct range){a - 32, z - 32};
}

/* The ranges of \d, [:alpha:] and the like, in order; negated: all between them. */
static void add_set(struct parser *p, const char *ends, bool negated) {
    uint32_t next = 0;
    for (; *ends; ends += 2) {
        unsigned char low = (unsigned char)ends[0], high = (unsigned char)ends[1];
        if (!negated)
            add_range(p, low, high);
        else if (low > next)
            add_range(p, next, low - 1u);
        next = high + 1u;
    }
    if (negated)
        add_range(p, next, LAST_CHARACTER);
}

static const char *set_of(uint32_t letter) {
    switch (letter | 32) {
    case 'd':
        return "09";
    case 'w':
        return "09AZ__az";
    case 's':
        return "\t\n\f\r  ";
    default:
        return NULL;
    }
}

static uint32_t take_hex(struct parser *p) {
    struct bytes digits = bytes_of(p->rest.ptr, 2);
    uint32_t c = 0;
    if (take(p, "{")) {
        if (!bytes_cut(p->rest, '}', &digits, &p->rest) || digits.len == 0 || digits.len > 6)
            return fail(p, ERR_INVALID, "\\x{ is not closed");
    } else if (p->rest.len < 2) {
        return fail(p, ERR_INVALID, "\\x lacks its digits");
    } else {
        p->rest = bytes_of(p->rest.ptr + 2, p->rest.len - 2);
    }
    for (size_t i = 0; i < digits.len; i++) {
        const char *all = "0123456789abcdef", *at = strchr(all, digits.ptr[i] | 32);
        if (!at || !isxdigit((unsigned char)digits.ptr[i]))
            return fail(p, ERR_INVALID, "\\x is followed by no hexadecimal number");
        c = c << 4 | (uint32_t)(at - all);
    }
    return c;
}

/* What a backslash and this letter stand for where that is one character. */
static uint32_t escaped(struct parser *p, uint32_t c) {
    static const char letters[] = "ntrfva", meant[] = "\n\t\r\f\v\a";
    const char *at = c < 128 && c ? strchr(letters, (int)c) : NULL;
    if (at)
        return (unsigned char)meant[at - letters];
    if (c == 'x')
        return take_hex(p);
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
        return fail(p, ERR_UNSUPPORTED, "an escape sequence that is not supported");
    return c;
}

static bool take_named_set(struct parser *p) {
    static const struct {
        const char *name, *ends;
    } sets[] = {{"[:alnum:]", "09AZaz"},  {"[:alpha:]", "AZaz"},    {"[:digit:]", "09"},
                {"[:lower:]", "az"},      {"[:upper:]", "AZ"},      {"[:space:]", "\t\r  "},
                {"[:word:]", "09AZ__az"}, {"[:xdigit:]", "09AFaf"}, {"[:punct:]", "!/:@[`{~"}};
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        if (take(p, sets[i].name)) {
            add_set(p, sets[i].ends, false);
            return true;
        }
    return false;
}

/* One character of a set, or a whole class; false: a class. */
static bool take_member(struct parser *p, uint32_t *c) {
    if (take_named_set(p))
        return false;
    *c = take_character(p);
    if (*c != '\\' || p->failed)
        return true;
    uint32_t letter = take_character(p);
    const char *set = letter < 128 ? set_of(letter) : NULL;
    if (set) {
        add_set(p, set, letter < 'a');
        return false;
    }
    *c = escaped(p, letter);
    return true;
}

static uint32_t class_node(struct parser *p, uint32_t first, bool negated) {
    return add_node(p,
                    (struct node){.type = NODE_CLASS, .left = first, .right = p->n_ranges - first, .negated = negated});
}

static uint32_t parse_set(struct parser *p) {
    uint32_t first = p->n_ranges, low, high;
    bool negated = take(p, "^");
    for (bool start = true; !p->failed && (start || !starts(p, "]")); start = false) {
        if (!take_member(p, &low) || p->failed)
            continue;
        high = low;
        if (starts(p, "-") && !starts(p, "-]") && take(p, "-") && !take_member(p, &high))
            fail(p, ERR_INVALID, "a range ends in a class");
        if (high < low)
            fail(p, ERR_INVALID, "a range is the wrong way round");
        add_range(p, low, high);
    }
    take(p, "]");
    return class_node(p, first, negated);
}

static uint32_t assertion(struct parser *p, enum assertion which) {
    return add_node(p, (struct node){.type = NODE_ASSERT, .min = which});
}

static uint32_t parse_escape(struct parser *p) {
    uint32_t first = p->n_ranges, c = take_character(p);
    const char *set = c < 128 ? set_of(c) : NULL;
    if (c == 'A' || c == 'z')
        return assertion(p, c == 'A' ? AT_START : AT_END);
    if (c == 'b' || c == 'B')
        return assertion(p, c == 'b' ? AT_WORD_EDGE : NOT_WORD_EDGE);
    if (set) {
        add_set(p, set, c < 'a');
    } else {
        c = escaped(p, c);
        add_range(p, c, c);
    }
    return class_node(p, first, false);
}

static uint32_t parse_alternatives(struct parser *p, unsigned depth);

static uint32_t parse_group(struct parser *p, unsigned depth) {
    bool ignore_case = p->ignore_case, dot_all = p->dot_all, flags_only = false;
    if (take(p, "?P<") || (starts(p, "?<") && !starts(p, "?<=") && !starts(p, "?<!") && take(p, "?<"))) {
        if (!bytes_cut(p->rest, '>', NULL, &p->rest))
            fail(p, ERR_INVALID, "a group's name is not closed");
    } else if (take(p, "?")) {
        while (!starts(p, ":") && !starts(p, ")") && !p->failed) {
            uint32_t flag = take_character(p);
            p->ignore_case = p->ignore_case || flag == 'i';
            p->dot_all = p->dot_all || flag == 's';
            if (flag != 'i' && flag != 's')
                fail(p, ERR_UNSUPPORTED, "a flag or a group that is not supported");
        }
        flags_only = !take(p, ":");
    }
    if (flags_only) {
        take(p, ")");
        return add_node(p, (struct node){.type = NODE_EMPTY});
    }
    uint32_t inner = parse_alternatives(p, depth - 1);
    if (!take(p, ")"))
        fail(p, ERR_INVALID, "a group is not closed");
    p->ignore_case = ignore_case;
    p->dot_all = dot_all;
    return inner;
}

static uint32_t parse_atom(struct parser *p, unsigned depth) {
    uint32_t first = p->n_ranges;
    if (take(p, "("))
        return depth ? parse_group(p, depth) : fail(p, ERR_TOO_LARGE, "groups are nested too deeply");
    if (take(p, "["))
        return parse_set(p);
    if (take(p, "\\"))
        return parse_escape(p);
    if (take(p, "^"))
        return assertion(p, AT_START);
    if (take(p, "$"))
        return assertion(p, AT_END);
    if (take(p, ".")) {
        add_set(p, p->dot_all ? "" : "\n\n", true);
        return class_node(p, first, false);
    }
    if (starts(p, "*") || starts(p, "+") || starts(p, "?"))
        return fail(p, ERR_INVALID, "a repetition of nothing");
    uint32_t c = take_character(p);
    add_range(p, c, c);
    return class_node(p, first, false);
}

static bool take_count(struct parser *p, uint32_t *out) {
    size_t n = 0;
    uint64_t value;
    while (n < p->rest.len && p->rest.ptr[n] >= '0' && p->rest.ptr[n] <= '9')
        n++;
    if (parse_u64(bytes_of(p->rest.ptr, n), UINT32_MAX, &value) < 0)
        return false;
    p->rest = bytes_of(p->rest.ptr + n, p->rest.len - n);
    *out = (uint32_t)value;
    return true;
}

/* {n}, {n,}, {n,m}; anything else in braces is text. */
static bool take_braces(struct parser *p, uint32_t *min, uint32_t *max) {
    struct bytes before = p->rest;
    if (take(p, "{") && take_count(p, min)) {
        *max = *min;
        bool comma = take(p, ","), limited = comma && !starts(p, "}");
        if (comma && !limited)
            *max = FOREVER;
        if ((!limited || take_count(p, max)) && take(p, "}"))
            return true;
    }
    p->rest = before;
    return false;
}

static uint32_t parse_repeated(struct parser *p, unsigned depth) {
    uint32_t atom = parse_atom(p, depth), min, max;
    while (!p->failed && p->rest.len > 0) {
        if (take(p, "*"))
            min = 0, max = FOREVER;
        else if (take(p, "+"))
            min = 1, max = FOREVER;
        else if (take(p, "?"))
            min = 0, max = 1;
        else if (!take_braces(p, &min, &max))
            break;
        take(p, "?"); /* lazy: finds the same */
        if (min > MAX_REPEAT || (max != FOREVER && (max > MAX_REPEAT || max < min)))
            return fail(p, ERR_INVALID, "a repetition is out of range");
        atom = add_node(p, (struct node){.type = NODE_REPEAT, .left = atom, .min = min, .max = max});
    }
    return atom;
}

static uint32_t parse_alternatives(struct parser *p, unsigned depth) {
    uint32_t all = FOREVER, one = add_node(p, (struct node){.type = NODE_EMPTY});
    while (!p->failed) {
        bool bar = take(p, "|"), end = !bar && (p->rest.len == 0 || starts(p, ")"));
        if (!bar && !end) {
            uint32_t next = parse_repeated(p, depth);
            one = add_node(p, (struct node){.type = NODE_CAT, .left = one, .right = next});
            continue;
        }
        all = all == FOREVER ? one : add_node(p, (struct node){.type = NODE_ALT, .left = all, .right = one});
        if (end)
            return all;
        one = add_node(p, (struct node){.type = NODE_EMPTY});
    }
    return 0;
}

/* ---- the program ------------------------------------------------------------------------------------------------ */

static uint32_t emit(struct pattern *out, struct step s) {
    if (out->n_steps < PATTERN_MAX_PROGRAM)
        out->steps[out->n_steps] = s;
    return out->n_steps < PATTERN_MAX_PROGRAM ? out->n_steps++ : out->n_steps; /* full: told by the caller */
}

static bool full(const struct pattern *out) {
    return out->n_steps >= PATTERN_MAX_PROGRAM;
}

static void emit_node(struct pattern *out, const struct parser *p, uint32_t index);

static void emit_repeat(struct pattern *out, const struct parser *p, const struct node *n) {
    for (uint32_t i = 0; i < n->min && !full(out); i++)
        emit_node(out, p, n->left);
    if (n->max == FOREVER) {
        uint32_t split = emit(out, (struct step){.type = STEP_SPLIT});
        emit_node(out, p, n->left);
        emit(out, (struct step){.type = STEP_JUMP, .a = split});
        if (!full(out))
            out->steps[split].a = split + 1, out->steps[split].b = out->n_steps;
        return;
    }
    uint32_t splits[MAX_REPEAT], n_splits = 0;
    for (uint32_t i = n->min; i < n->max && !full(out); i++) {
        splits[n_splits++] = emit(out, (struct step){.type = STEP_SPLIT});
        emit_node(out, p, n->left);
    }
    for (uint32_t i = 0; i < n_splits && !full(out); i++)
        out->steps[splits[i]].a = splits[i] + 1, out->steps[splits[i]].b = out->n_steps;
}

static void emit_alternative(struct pattern *out, const struct parser *p, const struct node *n) {
    uint32_t split = emit(out, (struct step){.type = STEP_SPLIT});
    emit_node(out, p, n->left);
    uint32_t jump = emit(out, (struct step){.type = STEP_JUMP});
    if (full(out))
        return;
    out->steps[split].a = split + 1;
    out->steps[split].b = out->n_steps;
    emit_node(out, p, n->right);
    if (!full(out))
        out->steps[jump].a = out->n_steps;
}

/* Nodes are as deep as groups and concatenations, so MAX_NODES at most. */
static void emit_node(struct pattern *out, const struct parser *p, uint32_t index) {
    const struct node *n = &p->nodes[index];
    if (full(out))
        return;
    switch (n->type) {
    case NODE_EMPTY:
        break;
    case NODE_CLASS:
        emit(out, (struct step){.type = STEP_CLASS, .negated = n->negated, .a = n->left, .b = n->right});
        break;
    case NODE_ASSERT:
        emit(out, (struct step){.type = STEP_ASSERT, .a = n->min});
        break;
    case NODE_CAT:
        emit_node(out, p, n->left);
        emit_node(out, p, n->right);
        break;
    case NODE_ALT:
        emit_alternative(out, p, n);
        break;
    case NODE_REPEAT:
        emit_repeat(out, p, n);
        break;
    }
}

struct pattern *pattern_compile(const char *text, struct error *err) {
    struct parser *p = NEW(struct parser);
    struct pattern *out = NEW(struct pattern);
    p->rest = bytes_str(text);
    p->err = err;
    out->steps = xcalloc(PATTERN_MAX_PROGRAM, sizeof(*out->steps));
    uint32_t root = parse_alternatives(p, MAX_DEPTH);
    if (!p->failed && p->rest.len > 0)
        fail(p, ERR_INVALID, "a group is closed that was not opened");
    if (!p->failed) {
        emit_node(out, p, root);
        emit(out, (struct step){.type = STEP_MATCH});
        if (full(out))
            fail(p, ERR_TOO_LARGE, "the pattern repeats too much");
    }
    if (p->failed) {
        pattern_free(out);
        out = NULL;
    } else {
        out->ranges = xmemdup(p->ranges, p->n_ranges * sizeof(*out->ranges));
        out->n_ranges = p->n_ranges;
        out->steps = xreallocarray(out->steps, out->n_steps, sizeof(*out->steps));
    }
    free(p);
    return out;
}

void pattern_free(struct pattern *p) {
    if (!p)
        return;
    free(p->ranges);
    free(p->steps);
    free(p);
}

/* ---- matching --------------------------------------------------------------------------------------------------- */

struct run {
    const struct pattern *p;
    struct bytes text;
    size_t at;
    uint32_t *now, *next, *stack; /* steps that are active */
    uint32_t n_now, n_next;
    uint32_t *seen, mark; /* marks steps that are active at this place */
    uint64_t *budget;
};

static bool is_word(const struct run *r, size_t at) {
    unsigned char c = at < r->text.len ? (unsigned char)r->text.ptr[at] : 0;
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool holds(const struct run *r, uint32_t assertion_type, size_t at) {
    bool edge = (at > 0 && is_word(r, at - 1)) != is_word(r, at);
    switch ((enum assertion)assertion_type) {
    case AT_START:
        return at == 0;
    case AT_END:
        return at == r->text.len;
    case AT_WORD_EDGE:
        return edge;
    case NOT_WORD_EDGE:
        return !edge;
    }
    return false;
}

/* Follows everything that needs no character; true: that is a match. */
static bool follow(struct run *r, uint32_t start, size_t at, uint32_t *list, uint32_t *count) {
    uint32_t depth = 0;
    r->stack[depth++] = start;
    while (depth > 0) {
        uint32_t i = r->stack[--depth];
        if (r->seen[i] == r->mark)
            continue;
        r->seen[i] = r->mark;
        const struct step *s = &r->p->steps[i];
        *r->budget -= *r->budget > 0;
        if (s->type == STEP_MATCH)
            return true;
        if (s->type == STEP_CLASS)
            list[(*count)++] = i;
        else if (s->type == STEP_JUMP)
            r->stack[depth++] = s->a;
        else if (s->type == STEP_SPLIT)
            r->stack[depth++] = s->b, r->stack[depth++] = s->a;
        else if (holds(r, s->a, at))
            r->stack[depth++] = i + 1;
    }
    return false;
}

static bool in_class(const struct pattern *p, const struct step *s, uint32_t c) {
    for (uint32_t i = s->a; i < s->a + s->b; i++)
        if (c >= p->ranges[i].low && c <= p->ranges[i].high)
            return !s->negated;
    return s->negated;
}

static bool run_all(struct run *r) {
    r->mark = 1;
    if (follow(r, 0, 0, r->now, &r->n_now))
        return true;
    while (r->at<r->text.len && * r->budget> 0) {
        size_t n;
        uint32_t c = decode(bytes_of(r->text.ptr + r->at, r->text.len - r->at), &n);
        r->at += n;
        r->mark++;
        r->n_next = 0;
        for (uint32_t i = 0; i < r->n_now; i++) {
            const struct step *s = &r->p->steps[r->now[i]];
            *r->budget -= *r->budget > 0;
            if (in_class(r->p, s, c) && follow(r, r->now[i] + 1, r->at, r->next, &r->n_next))
                return true;
        }
        if (follow(r, 0, r->at, r->next, &r->n_next)) /* a match may begin anywhere */
            return true;
        uint32_t *swap = r->now;
        r->now = r->next;
        r->next = swap;
        r->n_now = r->n_next;
    }
    return false;
}

bool pattern_matches(const struct pattern *p, struct bytes text, uint64_t *budget) {
    size_t n = p->n_steps + 1;
    uint32_t *room = xcalloc(n * 5, sizeof(*room));
    struct run r = {.p = p,
                    .text = text,
                    .now = room,
                    .next = room + n,
                    .seen = room + 2 * n,
                    .stack = room + 3 * n, /* each step pushes two at most */
                    .budget = budget};
    bool found = run_all(&r);
    free(room);
    return found;
}
