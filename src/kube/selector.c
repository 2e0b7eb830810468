#include "kube/selector.h"

#include "base/str.h"

#define SELECTOR_MAX_TEXT (64 * 1024)
#define SELECTOR_MAX_TERMS 1000

enum op { OP_EQUALS, OP_NOT_EQUALS, OP_IN, OP_NOT_IN, OP_EXISTS, OP_NOT_EXISTS, OP_GREATER, OP_LESS };

struct term {
    enum op op;
    char *key;
    struct strlist values;
    int64_t number; /* OP_GREATER, OP_LESS */
};

struct selector {
    bool nothing; /* matches nothing */
    struct term *terms;
    size_t n_terms;
};

void selector_free(struct selector *s) {
    if (!s)
        return;
    for (size_t i = 0; i < s->n_terms; i++) {
        free(s->terms[i].key);
        strlist_free(&s->terms[i].values);
    }
    free(s->terms);
    free(s);
}

static struct term *add_term(struct selector *s, enum op op, struct bytes key) {
    s->terms = xreallocarray(s->terms, s->n_terms + 1, sizeof *s->terms);
    struct term *t = &s->terms[s->n_terms++];
    *t = (struct term){.op = op, .key = bytes_dup(key)};
    return t;
}

static void add_value(struct term *t, struct bytes value) {
    strlist_add_take(&t->values, bytes_dup(value));
}

/* ---- label selectors -------------------------------------------------------------------------------------------- */

struct scan {
    struct bytes rest;
    struct error *err;
};

static void skip_blanks(struct scan *s) {
    while (s->rest.len > 0 && strchr(" \t\r\n", s->rest.ptr[0]) && s->rest.ptr[0]) {
        s->rest.ptr++;
        s->rest.len--;
    }
}

static bool take_char(struct scan *s, char c) {
    skip_blanks(s);
    if (s->rest.len == 0 || s->rest.ptr[0] != c)
        return false;
    s->rest.ptr++;
    s->rest.len--;
    return true;
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.' || c == '/';
}

/* A key or value; may be empty. */
static struct bytes take_word(struct scan *s) {
    skip_blanks(s);
    struct bytes word = bytes_of(s->rest.ptr, 0);
    while (s->rest.len > 0 && is_word(s->rest.ptr[0])) {
        s->rest.ptr++;
        s->rest.len--;
        word.len++;
    }
    return word;
}

static int bad_label_selector(struct scan *s, const char *what) {
    return error_set(s->err, ERR_INVALID, "unable to parse requirement: %s, found '%.*s'", what,
                     (int)(s->rest.len < 40 ? s->rest.len : 40), s->rest.ptr ? s->rest.ptr : "");
}

static int check_value(struct bytes value, struct error *err) {
    if (label_value_valid(value))
        return 0;
    return error_set(err, ERR_INVALID, "\"%.*s\" is not a label value", (int)(value.len < 80 ? value.len : 80),
                     value.ptr);
}

static int take_set(struct scan *s, struct term *t) {
    if (!take_char(s, '('))
        return bad_label_selector(s, "expected '('");
    do {
        struct bytes value = take_word(s);
        if (check_value(value, s->err) < 0)
            return -1;
        add_value(t, value);
        if (t->values.count > SELECTOR_MAX_TERMS)
            return error_set(s->err, ERR_TOO_LARGE, "selector has too many values");
    } while (take_char(s, ','));
    return take_char(s, ')') ? 0 : bad_label_selector(s, "expected ',' or ')'");
}

static int take_number(struct scan *s, struct term *t) {
    struct bytes value = take_word(s);
    if (parse_i64(value, INT64_MIN, INT64_MAX, &t->number) < 0)
        return error_set(s->err, ERR_INVALID, "for 'Gt', 'Lt' operators, the value must be an integer");
    add_value(t, value);
    return 0;
}

/* What follows the key. */
static int take_operator(struct scan *s, struct selector *sel, struct bytes key) {
    enum op op;
    if (take_char(s, '!')) {
        if (!take_char(s, '='))
            return bad_label_selector(s, "expected '='");
        op = OP_NOT_EQUALS;
    } else if (take_char(s, '=')) {
        (void)take_char(s, '=');
        op = OP_EQUALS;
    } else if (take_char(s, '>')) {
        return take_number(s, add_term(sel, OP_GREATER, key));
    } else if (take_char(s, '<')) {
        return take_number(s, add_term(sel, OP_LESS, key));
    } else {
        struct bytes word = take_word(s);
        if (bytes_eq_str(word, "in"))
            return take_set(s, add_term(sel, OP_IN, key));
        if (bytes_eq_str(word, "notin"))
            return take_set(s, add_term(sel, OP_NOT_IN, key));
        if (word.len > 0)
            return bad_label_selector(s, "expected '=', '==', '!=', 'in' or 'notin'");
        add_term(sel, OP_EXISTS, key);
        return 0;
    }
    struct bytes value = take_word(s);
    if (check_value(value, s->err) < 0)
        return -1;
    add_value(add_term(sel, op, key), value);
    return 0;
}

static int take_requirement(struct scan *s, struct selector *sel) {
    bool negated = take_char(s, '!');
    struct bytes key = take_word(s);
    if (key.len == 0)
        return bad_label_selector(s, "expected a label key");
    if (!qualified_name_valid(key))
        return error_set(s->err, ERR_INVALID, "\"%.*s\" is not a label key", (int)(key.len < 80 ? key.len : 80),
                         key.ptr);
    if (negated) {
        add_term(sel, OP_NOT_EXISTS, key);
        return 0;
    }
    return take_operator(s, sel, key);
}

int selector_parse_labels(struct bytes text, struct selector **out, struct error *err) {
    struct scan s = {text, err};
    _cleanup_(selector_free_p) struct selector *sel = NEW(struct selector);
    if (text.len > SELECTOR_MAX_TEXT)
        return error_set(err, ERR_TOO_LARGE, "label selector is longer than %d bytes", SELECTOR_MAX_TEXT);
    skip_blanks(&s);
    while (s.rest.len > 0) {
        if (take_requirement(&s, sel) < 0)
            return -1;
        if (sel->n_terms > SELECTOR_MAX_TERMS)
            return error_set(err, ERR_TOO_LARGE, "label selector has too many requirements");
        skip_blanks(&s);
        if (s.rest.len == 0)
            break;
        if (!take_char(&s, ','))
            return bad_label_selector(&s, "expected ',' or the end");
        skip_blanks(&s);
        if (s.rest.len == 0)
            return bad_label_selector(&s, "expected a label key");
    }
    *out = TAKE(sel);
    return 0;
}

/* ---- LabelSelector objects -------------------------------------------------------------------------------------- */

static int add_expression(struct selector *sel, yyjson_val *e, struct error *err) {
    static const struct {
        const char *name;
        enum op op;
    } operators[] = {{"In", OP_IN}, {"NotIn", OP_NOT_IN}, {"Exists", OP_EXISTS}, {"DoesNotExist", OP_NOT_EXISTS}};
    const char *key = json_str(e, "key"), *name = json_str(e, "operator");
    yyjson_val *values = json_get(e, "values");
    for (size_t i = 0; key && i < ARRAY_LEN(operators); i++) {
        if (!str_eq(name, operators[i].name))
            continue;
        bool wants_values = operators[i].op == OP_IN || operators[i].op == OP_NOT_IN;
        if (wants_values != (yyjson_arr_size(values) > 0))
            return error_set(err, ERR_INVALID, "label selector: operator %s of key %s %s", name, key,
                             wants_values ? "needs values" : "takes no values");
        struct term *t = add_term(sel, operators[i].op, bytes_str(key));
        yyjson_arr_iter it = yyjson_arr_iter_with(values);
        for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
            if (yyjson_is_str(v))
                strlist_add(&t->values, yyjson_get_str(v));
        return 0;
    }
    return error_set(err, ERR_INVALID, "label selector: \"%s\" is not an operator (In, NotIn, Exists, DoesNotExist)",
                     str_or(name, ""));
}

int selector_from_object(yyjson_val *label_selector, struct selector **out, struct error *err) {
    _cleanup_(selector_free_p) struct selector *sel = NEW(struct selector);
    sel->nothing = !yyjson_is_obj(label_selector);
    yyjson_obj_iter it = yyjson_obj_iter_with(json_get(label_selector, "matchLabels"));
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        const char *value = yyjson_get_str(yyjson_obj_iter_get_val(key));
        if (!value)
            return error_set(err, ERR_INVALID, "label selector: the value of %s is not a string", yyjson_get_str(key));
        add_value(add_term(sel, OP_EQUALS, bytes_str(yyjson_get_str(key))), bytes_str(value));
    }
    yyjson_arr_iter list = yyjson_arr_iter_with(json_get(label_selector, "matchExpressions"));
    for (yyjson_val *e; (e = yyjson_arr_iter_next(&list));)
        if (add_expression(sel, e, err) < 0)
            return -1;
    *out = TAKE(sel);
    return 0;
}

/* ---- field selectors -------------------------------------------------------------------------------------------- */

/* Text up to an unescaped comma or, in a key, an operator; escapes are undone. */
static char *take_field_text(struct bytes *rest, bool key, struct error *err) {
    struct buf out = BUF_INIT(SELECTOR_MAX_TEXT);
    buf_add(&out, "", 0);
    while (rest->len > 0) {
        char c = rest->ptr[0];
        if (c == ',' || (key && (c == '=' || c == '!')))
            break;
        if (c == '\\') {
            if (rest->len < 2 || !strchr("\\,=", rest->ptr[1]) || !rest->ptr[1]) {
                buf_free(&out);
                error_set(err, ERR_INVALID, "invalid field selector: \\ must stand before \\, comma or =");
                return NULL;
            }
            rest->ptr++;
            rest->len--;
            c = rest->ptr[0];
        } else if (c == '=' || c == '\0') {
            buf_free(&out);
            error_set(err, ERR_INVALID, "invalid field selector: unescaped = in a value");
            return NULL;
        }
        buf_add_char(&out, c);
        rest->ptr++;
        rest->len--;
    }
    return buf_take(&out, NULL);
}

static bool take_prefix(struct bytes *rest, const char *prefix) {
    if (!bytes_starts_with(*rest, prefix))
        return false;
    rest->ptr += strlen(prefix);
    rest->len -= strlen(prefix);
    return true;
}

static int take_field_term(struct bytes *rest, struct selector *sel, struct error *err) {
    _cleanup_(free_p) char *key = take_field_text(rest, true, err);
    if (!key)
        return -1;
    enum op op = OP_EQUALS;
    if (take_prefix(rest, "!="))
        op = OP_NOT_EQUALS;
    else if (!take_prefix(rest, "==") && !take_prefix(rest, "="))
        return error_set(err, ERR_INVALID, "invalid field selector: no =, == or != after \"%.80s\"", key);
    if (!*key)
        return error_set(err, ERR_INVALID, "invalid field selector: a field's name is missing");
    char *value = take_field_text(rest, false, err);
    if (!value)
        return -1;
    strlist_add_take(&add_term(sel, op, bytes_str(key))->values, value);
    return 0;
}

int selector_parse_fields(struct bytes text, struct selector **out, struct error *err) {
    _cleanup_(selector_free_p) struct selector *sel = NEW(struct selector);
    if (text.len > SELECTOR_MAX_TEXT)
        return error_set(err, ERR_TOO_LARGE, "field selector is longer than %d bytes", SELECTOR_MAX_TEXT);
    struct bytes rest = text;
    while (rest.len > 0) {
        if (take_prefix(&rest, ",")) /* empty terms are fine */
            continue;
        if (take_field_term(&rest, sel, err) < 0)
            return -1;
        if (sel->n_terms > SELECTOR_MAX_TERMS)
            return error_set(err, ERR_TOO_LARGE, "field selector has too many terms");
    }
    *out = TAKE(sel);
    return 0;
}

/* ---- matching --------------------------------------------------------------------------------------------------- */

bool selector_is_empty(const struct selector *s) {
    return !s || (s->n_terms == 0 && !s->nothing);
}

static bool match_term(const struct term *t, const char *value) {
    int64_t number;
    switch (t->op) {
    case OP_EQUALS:
    case OP_IN:
        return value && strlist_has(&t->values, value);
    case OP_NOT_EQUALS:
    case OP_NOT_IN:
        return !value || !strlist_has(&t->values, value);
    case OP_EXISTS:
        return value;
    case OP_NOT_EXISTS:
        return !value;
    case OP_GREATER:
        return value && parse_i64(bytes_str(value), INT64_MIN, INT64_MAX, &number) == 0 && number > t->number;
    case OP_LESS:
        return value && parse_i64(bytes_str(value), INT64_MIN, INT64_MAX, &number) == 0 && number < t->number;
    }
    return false;
}

bool selector_match_labels(const struct selector *s, yyjson_val *labels) {
    if (!s)
        return true;
    for (size_t i = 0; i < s->n_terms; i++)
        if (!match_term(&s->terms[i], yyjson_get_str(yyjson_obj_get(labels, s->terms[i].key))))
            return false;
    return !s->nothing;
}

bool selector_match_fields(const struct selector *s, const char *(*get)(void *arg, const char *field), void *arg) {
    if (!s)
        return true;
    for (size_t i = 0; i < s->n_terms; i++) {
        const char *value = get(arg, s->terms[i].key);
        if (!match_term(&s->terms[i], value ? value : ""))
            return false;
    }
    return !s->nothing;
}

const char *selector_field(const struct selector *s, size_t i, const char **equals) {
    if (!s || i >= s->n_terms)
        return NULL;
    if (equals)
        *equals = s->terms[i].op == OP_EQUALS ? s->terms[i].values.items[0] : NULL;
    return s->terms[i].key;
}
