#include "edge/edged/static_files.h"

#include "base/file.h"
#include "base/yaml.h"
#include "kube/object.h"
#include "net/tls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1u << 20)
#define MAX_FILES 500
#define UID_BYTES 16

/* ---- one file ---- */

static char *static_uid(struct bytes text, const char *node) {
    unsigned char digest[32];
    _cleanup_(buf_free) struct buf all = BUF_INIT(FILE_MAX + 512), hex = BUF_INIT(64);
    (void)buf_add(&all, text.ptr, text.len);
    (void)buf_addf(&all, "\nhost:%s", node);
    (void)sha256(buf_bytes(&all), digest);
    (void)hex_encode(bytes_of((const char *)digest, UID_BYTES), &hex);
    return buf_take(&hex, NULL);
}

/* What a kubelet adds: see static_pod_parse. */
static void complete(yyjson_mut_doc *d, yyjson_mut_val *root, const char *node, const char *uid) {
    yyjson_mut_val *meta = json_ensure_obj(d, root, "metadata"), *spec = json_ensure_obj(d, root, "spec");
    _cleanup_(free_p) char *name = xasprintf("%s-%s", str_or(json_mut_str(meta, "name"), ""), node);
    json_set_str(d, meta, "name", name);
    json_set_str(d, meta, "uid", uid);
    if (str_empty(json_mut_str(meta, "namespace")))
        json_set_str(d, meta, "namespace", "default");
    yyjson_mut_val *annotations = json_ensure_obj(d, meta, "annotations");
    json_set_str(d, annotations, "kubernetes.io/config.source", "file");
    json_set_str(d, annotations, "kubernetes.io/config.hash", uid);
    json_set_str(d, spec, "nodeName", node);
    yyjson_mut_val *all = yyjson_mut_arr_add_obj(d, json_ensure_arr(d, spec, "tolerations"));
    json_set_str(d, all, "operator", "Exists");
    json_set_str(d, all, "effect", "NoExecute");
    json_remove(root, "status");
}

struct pod *static_pod_parse(struct bytes text, const char *file, const char *node, struct error *err) {
    struct yaml_doc doc = {0};
    if (yaml_parse(text, file, &doc, err) < 0)
        return NULL;
    yyjson_val *root = yyjson_doc_get_root(doc.json);
    struct pod *p = NULL;
    if (!str_eq(json_str(root, "kind"), "Pod") || !str_eq(json_str(root, "apiVersion"), "v1")) {
        error_set(err, ERR_INVALID, "%s: a file in staticPodPath holds one Pod (apiVersion: v1, kind: Pod)", file);
    } else {
        _cleanup_(free_p) char *uid = static_uid(text, node);
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *copy = yyjson_val_mut_copy(d, root);
        yyjson_mut_doc_set_root(d, copy);
        complete(d, copy, node, uid);
        _cleanup_(yyjson_doc_free_p) yyjson_doc *whole = yyjson_mut_doc_imut_copy(d, NULL);
        p = pod_new(yyjson_doc_get_root(whole), err);
        if (p)
            p->is_static = true;
        else
            (void)error_wrap(err, "%s", file);
    }
    yaml_doc_free(&doc);
    return p;
}

/* ---- the folder ---- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct static_file *)a)->name, ((const struct static_file *)b)->name);
}

static void add_file(struct static_files *f, int dir, const char *name, const char *node) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(FILE_MAX);
    struct error err = ERROR_INIT;
    struct stat st;
    if (fstatat(dir, name, &st, 0) < 0 || !S_ISREG(st.st_mode))
        return;
    struct static_file *item = &f->items[f->count++];
    *item = (struct static_file){.name = xstrdup(name)};
    if (file_read_at(dir, name, &text, &err) == 0)
        item->pod = static_pod_parse(buf_bytes(&text), name, node, &err);
    if (!item->pod)
        item->complaint = xstrdup(error_text(&err));
}

void static_files_read(const char *folder, const char *node, struct static_files *out) {
    *out = (struct static_files){.err = ERROR_INIT};
    _cleanup_(close_fd_p) int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        if (errno != ENOENT)
            (void)error_set_errno(&out->err, errno, "open staticPodPath %s", folder);
        return;
    }
    int again = dup(dir);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d) {
        (void)error_set_errno(&out->err, errno, "read staticPodPath %s", folder);
        if (again >= 0)
            close(again);
        return;
    }
    out->items = xcalloc(MAX_FILES, sizeof(*out->items));
    for (struct dirent *e; (e = readdir(d)) && out->count < MAX_FILES;)
        if (e->d_name[0] != '.')
            add_file(out, dir, e->d_name, node);
    closedir(d);
    qsort(out->items, out->count, sizeof(*out->items), by_name);
}

void static_files_free(struct static_files *f) {
    for (size_t i = 0; i < f->count; i++) {
        free(f->items[i].name);
        pod_free(f->items[i].pod);
        free(f->items[i].complaint);
    }
    free(f->items);
    *f = (struct static_files){.err = ERROR_INIT};
}
