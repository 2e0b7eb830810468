#include "wire/tunnel.h"

#include "base/json.h"
#include "base/str.h"

#include <inttypes.h>
#include <strings.h>

enum { REQUEST_MAX = 256 << 10, MAX_HEADERS = 200 };

/* ---- numbers ---- */

static int put_number(struct buf *out, uint64_t v) {
    for (; v >= 0x80; v >>= 7)
        buf_add_char(out, (char)(v | 0x80));
    return buf_add_char(out, (char)v);
}

static int get_number(struct bytes *in, uint64_t *out) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && in->len > 0; shift += 7) {
        unsigned char c = (unsigned char)*in->ptr;
        in->ptr++;
        in->len--;
        if (shift == 63 && c > 1)
            return -1;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            *out = v;
            return 0;
        }
    }
    return -1;
}

/* ---- frames ---- */

int tunnel_frame_read(struct bytes message, struct tunnel_frame *out, struct error *err) {
    if (get_number(&message, &out->id) < 0 || get_number(&message, &out->type) < 0)
        return error_set(err, ERR_INVALID, "a tunnel frame's head is cut off or too long");
    if (message.len > TUNNEL_DATA_MAX)
        message.len = TUNNEL_DATA_MAX;
    out->data = message;
    return 0;
}

int tunnel_frame_write(struct buf *out, uint64_t id, enum tunnel_type type, struct bytes data) {
    if (put_number(out, id) < 0 || put_number(out, type) < 0)
        return -1;
    return buf_add_bytes(out, data);
}

int tunnel_window_read(struct bytes data, uint64_t *out, struct error *err) {
    if (get_number(&data, out) < 0 || data.len > 0 || *out == 0 || *out > TUNNEL_DATA_MAX)
        return error_set(err, ERR_INVALID, "a tunnel window is no number from 1 to %u", TUNNEL_DATA_MAX);
    return 0;
}

int tunnel_window_write(struct buf *out, uint64_t id, uint64_t bytes) {
    if (tunnel_frame_write(out, id, TUNNEL_WINDOW, BYTES_EMPTY) < 0)
        return -1;
    return put_number(out, bytes);
}

/* ---- requests ---- */

void tunnel_request_free(struct tunnel_request *r) {
    for (size_t i = 0; i < r->n_headers; i++) {
        free(r->headers[i].name);
        free(r->headers[i].value);
    }
    free(r->headers);
    free(r->method);
    free(r->path);
    free(r->query);
    *r = (struct tunnel_request){0};
}

void tunnel_request_add(struct tunnel_request *r, struct bytes name, struct bytes value) {
    r->headers = xreallocarray(r->headers, r->n_headers + 1, sizeof(r->headers[0]));
    r->headers[r->n_headers++] = (struct tunnel_header){bytes_dup(name), bytes_dup(value)};
}

const char *tunnel_request_header(const struct tunnel_request *r, const char *name) {
    for (size_t i = 0; i < r->n_headers; i++)
        if (strcasecmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    return NULL;
}

/* Go's url.URL as its JSON encoder shows it: the path decoded, and as sent in RawPath where that says more. */
static void write_url(yyjson_mut_doc *d, yyjson_mut_val *root, const struct tunnel_request *r) {
    _cleanup_(buf_free) struct buf decoded = BUF_INIT(REQUEST_MAX);
    bool plain =
        percent_decode(bytes_str(r->path), false, &decoded) < 0 || bytes_eq(buf_bytes(&decoded), bytes_str(r->path));
    yyjson_mut_val *url = json_ensure_obj(d, root, "url");
    json_set_str(d, url, "Scheme", "http");
    json_set_str(d, url, "Opaque", "");
    json_set(d, url, "User", yyjson_mut_null(d));
    json_set_str(d, url, "Host", "127.0.0.1:10350");
    json_set_str(d, url, "Path", plain ? r->path : decoded.ptr);
    json_set_str(d, url, "RawPath", plain ? "" : r->path);
    json_set_bool(d, url, "OmitHost", false);
    json_set_bool(d, url, "ForceQuery", false);
    json_set_str(d, url, "RawQuery", r->query);
    json_set_str(d, url, "Fragment", "");
    json_set_str(d, url, "RawFragment", "");
}

int tunnel_request_write(struct buf *out, uint64_t id, const struct tunnel_request *r, bool with_method) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    json_set_int(d, root, "MessID", (int64_t)id);
    write_url(d, root, r);
    yyjson_mut_val *headers = json_ensure_obj(d, root, "header");
    for (size_t i = 0; i < r->n_headers; i++) {
        yyjson_mut_val *list = json_ensure_arr(d, headers, r->headers[i].name);
        yyjson_mut_arr_add_strcpy(d, list, r->headers[i].value);
    }
    if (with_method)
        json_set_str(d, root, "method", r->method);
    return json_append_mut(out, root);
}

/* Go's decoder takes members of any case. */
static yyjson_val *member(yyjson_val *obj, const char *name) {
    size_t i, n;
    yyjson_val *k, *v;
    if (yyjson_is_obj(obj))
        yyjson_obj_foreach (obj, i, n, k, v)
            if (strcasecmp(yyjson_get_str(k), name) == 0)
                return v;
    return NULL;
}

/* Could it stand in a line of a request's head? */
static bool is_line(const char *s, bool blanks) {
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f || (*s == ' ' && !blanks))
            return false;
    return true;
}

static bool is_token(const char *s) {
    if (!*s)
        return false;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", *s))
            return false;
    return true;
}

/* A string without NUL inside; NULL if it is none. */
static const char *text_of(yyjson_val *v) {
    const char *s = yyjson_get_str(v);
    return s && strlen(s) == yyjson_get_len(v) ? s : NULL;
}

static char *encoded_path(const char *path) {
    static const char kept[] = "/-._~$&+:=@!'()*,;";
    _cleanup_(buf_free) struct buf out = BUF_INIT(REQUEST_MAX * 3);
    for (; *path; path++) {
        unsigned char c = (unsigned char)*path;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr(kept, c))
            buf_add_char(&out, (char)c);
        else
            buf_addf(&out, "%%%02X", c);
    }
    return buf_take(&out, NULL);
}

static int read_url(yyjson_val *url, struct tunnel_request *r, struct error *err) {
    const char *path = text_of(member(url, "Path")), *raw = text_of(member(url, "RawPath"));
    const char *query = text_of(member(url, "RawQuery"));
    _cleanup_(buf_free) struct buf decoded = BUF_INIT(REQUEST_MAX);
    if (!path || path[0] != '/')
        return error_set(err, ERR_INVALID, "the request names no path");
    bool use_raw = !str_empty(raw) && is_line(raw, false) && percent_decode(bytes_str(raw), false, &decoded) == 0 &&
                   bytes_eq(buf_bytes(&decoded), bytes_str(path));
    r->path = use_raw ? xstrdup(raw) : encoded_path(path);
    r->query = xstrdup(query ? query : "");
    if (!is_line(r->query, false))
        return error_set(err, ERR_INVALID, "the request's query has blanks or control characters in it");
    return 0;
}

static int read_headers(yyjson_val *headers, struct tunnel_request *r, struct error *err) {
    size_t i, n, j, m;
    yyjson_val *k, *list, *v;
    if (!yyjson_is_obj(headers))
        return 0;
    yyjson_obj_foreach (headers, i, n, k, list) {
        const char *name = text_of(k);
        if (!yyjson_is_arr(list))
            continue;
        yyjson_arr_foreach (list, j, m, v) {
            const char *value = text_of(v);
            if (!name || !value || !is_token(name) || !is_line(value, true))
                return error_set(err, ERR_INVALID, "the request has a malformed header");
            if (r->n_headers == MAX_HEADERS)
                return error_set(err, ERR_TOO_LARGE, "the request has more than %d headers", MAX_HEADERS);
            tunnel_request_add(r, bytes_str(name), bytes_str(value));
        }
    }
    return 0;
}

int tunnel_request_read(struct bytes json, struct tunnel_request *out, struct error *err) {
    *out = (struct tunnel_request){0};
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(json, REQUEST_MAX, err);
    if (!doc)
        return -1;
    yyjson_val *root = yyjson_doc_get_root(doc), *method = member(root, "method");
    const char *verb = method ? text_of(method) : "GET";
    out->method = xstrdup(verb ? verb : "");
    if (!is_token(out->method))
        error_set(err, ERR_INVALID, "the request's method is none");
    else if (read_url(member(root, "url"), out, err) == 0 && read_headers(member(root, "header"), out, err) == 0)
        return 0;
    tunnel_request_free(out);
    return -1;
}
