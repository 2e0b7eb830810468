/* A message from the cloud, as MetaManager takes it: decoded, routed, applied to a database that forgets it again. */
#include "base/file.h"
#include "base/mem.h"
#include "edge/edgehub/dispatch.h"
#include "edge/metamanager/meta_job.h"

static struct meta_store *store;

static enum job_kind kind_of(const struct message *m, unsigned char choice) {
    static const enum job_kind kinds[] = {JOB_PUT, JOB_DELETE, JOB_READ, JOB_ANSWER, JOB_KEEP_PATCH, JOB_TOKENS};
    enum job_kind kind = kinds[choice % ARRAY_LEN(kinds)];
    return kind == JOB_PUT && !yyjson_is_obj(m->content) ? JOB_DELETE : kind;
}

static void open_store(void) {
    char dir[] = "/tmp/selvage-fuzz-XXXXXX";
    if (!mkdtemp(dir))
        abort();
    _cleanup_(free_p) char *path = xasprintf("%s/edge.db", dir);
    if (meta_store_open(&store, path, NULL) < 0)
        abort();
    (void)dir_remove(dir, NULL); /* the open file lives on */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct message *m = NULL;
    const char *component;
    if (size < 1 || message_decode(bytes_of(data + 1, size - 1), &m, NULL) < 0)
        return 0;
    if (!store)
        open_store();
    (void)downstream_target(m, &component);
    struct job *j = job_new(kind_of(m, data[0]), m);
    if (!j->has_resource || j->resource.name.len == 0) {
        job_free(j); /* MetaManager makes no job of it */
        return 0;
    }
    if (j->kind == JOB_ANSWER)
        j->answer = message_copy(m);
    if (meta_store_begin(store, NULL) < 0)
        abort();
    struct error err = ERROR_INIT;
    if (job_apply(j, store, &err) < 0 && err.code == ERR_INVALID)
        abort(); /* would take the database for damaged */
    meta_store_rollback(store);
    job_free(j);
    return 0;
}
