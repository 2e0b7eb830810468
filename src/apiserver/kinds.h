/* The register of served kinds: what a kind is called, where it stands, and the few rules in which kinds differ. Kinds
 * are data: the built-in ones a table, those of CustomResourceDefinitions added and removed while running.
 *
 * One thread changes a register and reads it. A struct kind stays valid while it is registered or referenced. */
#pragma once

#include "base/json.h"
#include "base/str.h"
#include "kube/schema.h"

enum kind_verb {
    VERB_CREATE = 1 << 0,
    VERB_DELETE = 1 << 1,
    VERB_DELETECOLLECTION = 1 << 2,
    VERB_GET = 1 << 3,
    VERB_LIST = 1 << 4,
    VERB_PATCH = 1 << 5,
    VERB_UPDATE = 1 << 6,
    VERB_WATCH = 1 << 7,
};
#define VERBS_FULL 0xffu
#define VERBS_STATUS (VERB_GET | VERB_PATCH | VERB_UPDATE)
#define VERBS_CONNECT (VERB_CREATE | VERB_GET) /* of POST and GET upgrades */

enum kind_name_rule { NAME_DNS_SUBDOMAIN, NAME_DNS_LABEL, NAME_PATH_SEGMENT, NAME_CRD };

/* When metadata.generation moves (it starts at 1, and is absent under GENERATION_NONE). */
enum kind_generation {
    GENERATION_NONE,
    GENERATION_SPEC,         /* spec changes */
    GENERATION_NOT_STATUS,   /* anything but metadata and status changes */
    GENERATION_NOT_METADATA, /* anything but metadata changes */
};

struct kind_subresource {
    const char *name; /* "status", "binding", ... */
    unsigned verbs;
    /* The kind of its bodies; NULL where it is the parent's own. */
    const char *group, *version, *kind;
};

struct kind_column { /* of a CustomResourceDefinition's additionalPrinterColumns */
    char *name, *type, *format, *description, *json_path;
    int64_t priority;
};

struct crd_schema;

struct kind {
    const char *group, *version; /* group "" is core */
    const char *plural, *singular, *kind, *list_kind;
    const char *const *short_names, *const *categories; /* NULL-terminated, never NULL */
    bool namespaced;
    unsigned verbs;
    const struct kind_subresource *subresources;
    size_t n_subresources;

    enum kind_name_rule name_rule;
    enum kind_generation generation;
    bool has_status;            /* main writes keep the stored status; /status changes only status */
    bool unconditional_update;  /* PUT without resourceVersion writes over the latest */
    bool create_on_update;      /* PUT of a missing object creates it */
    bool graceful_delete;       /* Pod: deletion waits for the grace period */
    bool delete_returns_object; /* DELETE answers with the object rather than a Status */
    int64_t ttl_s;              /* Event: gone so long after the last write; 0: never */
    const char *const *fields;  /* field selectors besides metadata.name and .namespace; NULL-terminated */

    /* Where objects are stored: the group and plural of the kind that owns the storage, and the version they are stored
     * in. The same as above but for events.k8s.io (core) and for CRs with several versions. See kind_to_stored. */
    const char *storage_group, *storage_version, *storage_plural;

    const struct schema_type *type;  /* built-in kinds; NULL for custom ones */
    bool custom;                     /* JSON only, no strategic merge patch, list items carry apiVersion and kind */
    const struct crd_schema *schema; /* custom kinds */
    const struct kind_column *columns;
    size_t n_columns;
};

struct kinds;

struct kinds *kinds_new(void); /* with the built-in kinds */
void kinds_free(struct kinds *ks);
/* Served kind by path; NULL if there is none. */
const struct kind *kinds_find(const struct kinds *ks, struct bytes group, struct bytes version, struct bytes plural);
/* By group, version and Kind, as in bodies. */
const struct kind *kinds_find_kind(const struct kinds *ks, struct bytes group, struct bytes version, struct bytes kind);
/* All, in discovery order: core first, then built-in groups, then groups of CRDs; versions by priority. */
size_t kinds_count(const struct kinds *ks);
const struct kind *kinds_at(const struct kinds *ks, size_t i);
/* Counts changes of the register: discovery documents may be kept as long as it stays. */
uint64_t kinds_generation(const struct kinds *ks);

/* Keeps a kind alive across a request that waits; nothing happens for built-in kinds. */
const struct kind *kind_ref(const struct kind *k);
void kind_unref(const struct kind *k);

/* Serves a CustomResourceDefinition: replaces what it served before. Only what is Established should be put here.
 * ERR_INVALID where it could not be served (validate_create says why in detail), ERR_CONFLICT where its names belong to
 * another one. */
int kinds_put_crd(struct kinds *ks, yyjson_val *crd, struct error *err) MUST_CHECK;
void kinds_remove_crd(struct kinds *ks, const char *crd_name);
/* The status that a CRD gets: {"conditions":[NamesAccepted, Established], "acceptedNames":..., "storedVersions":[...]},
 * keeping transition times of `crd`'s present status where a condition doesn't change. now: unix seconds. */
yyjson_mut_val *kinds_crd_status(const struct kinds *ks, yyjson_mut_doc *d, yyjson_val *crd, int64_t now);

/* "pods" or "leases.coordination.k8s.io", as messages name resources. Owned. */
char *kind_resource_name(const struct kind *k);
/* "v1" or "apps/v1". Owned. */
char *kind_api_version(const struct kind *k);
const struct kind_subresource *kind_subresource(const struct kind *k, struct bytes name); /* NULL if not served */

/* A body as this kind: unknown members dropped (their paths go to `unknown`, which may be NULL: 'unknown field
 * "spec.x"' and 'duplicate field "spec.x"', ready for Warning headers and strict errors), JSON types checked
 * (ERR_INVALID with the path). apiVersion and kind are set to the kind's; metadata is always an object. */
yyjson_mut_val *kind_decode(const struct kind *k, yyjson_mut_doc *d, yyjson_val *body, struct strlist *unknown,
                            struct error *err) MUST_CHECK;
/* Between the served form and the stored form (core Events; the storage version of a CR). Change obj in place. */
void kind_to_stored(const struct kind *k, yyjson_mut_doc *d, yyjson_mut_val *obj);
void kind_from_stored(const struct kind *k, yyjson_mut_doc *d, yyjson_mut_val *obj);
/* false: stored objects are the served ones but for apiVersion, which is the same, too. */
bool kind_needs_conversion(const struct kind *k);

/* Field selectors: whether `field` may be used, and its value for selector_match_fields. */
bool kind_field_supported(const struct kind *k, const char *field);
struct kind_fields {
    const struct kind *kind;
    yyjson_val *object;
    char text[32];
};
const char *kind_fields_get(void *kind_fields, const char *field);
