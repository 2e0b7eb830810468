/* A pull secret's Docker configuration, in both of its forms, searched for an image's registry. The first line of the
 * input is the image. */
#include "base/mem.h"
#include "edge/edged/images.h"

static void search(const struct pod *p, const char *key, struct bytes config, const char *image) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(4u << 20);
    buf_addf(&text, "{\"data\":{\"%s\":\"", key);
    base64_encode(config, &text);
    buf_add_str(&text, "\"}}");
    struct object_set *s = NEW(struct object_set);
    struct object_entry *e = object_set_want(s, OBJ_SECRET, "pull");
    e->doc = json_parse(buf_bytes(&text), 4u << 20, NULL);
    e->obj = yyjson_doc_get_root(e->doc);
    image_credentials_free(image_credentials(p, s, image));
    object_set_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct pod *p;
    struct bytes image, config;
    if (!p) {
        yyjson_doc *doc =
            json_parse(BYTES_LIT("{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\",\"uid\":\"u\"},\"spec\":"
                                 "{\"imagePullSecrets\":[{\"name\":\"pull\"}],\"containers\":[{\"name\":"
                                 "\"c\",\"image\":\"x\"}]}}"),
                       4096, NULL);
        p = pod_new(yyjson_doc_get_root(doc), NULL);
        yyjson_doc_free(doc);
        if (!p)
            abort();
    }
    if (!bytes_cut(bytes_of(data, size), '\n', &image, &config))
        return 0;
    _cleanup_(free_p) char *name = bytes_dup(image);
    if (!image_name_valid(name))
        return 0;
    search(p, ".dockerconfigjson", config, name);
    search(p, ".dockercfg", config, name);
    return 0;
}
