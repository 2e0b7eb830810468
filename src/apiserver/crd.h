/* CustomResourceDefinitions: their structural schemas, and the kinds made of them. Private to the register of kinds,
 * defaulting, validation and OpenAPI. */
#pragma once

#include "apiserver/kinds.h"
#include "apiserver/validate.h"

/* A version's structural schema, read in place from the CRD. */
struct crd_schema {
    yyjson_val *root; /* openAPIV3Schema */
};

/* Copies body without what the schema doesn't know. metadata is pruned as ObjectMeta; unknown as in kind_decode. */
yyjson_mut_val *crd_schema_prune(const struct crd_schema *s, yyjson_mut_doc *d, yyjson_val *body,
                                 struct strlist *unknown, struct error *err) MUST_CHECK;
/* Fills `default`s, parents first. */
void crd_schema_default(const struct crd_schema *s, yyjson_mut_doc *d, yyjson_mut_val *obj);
void crd_schema_validate(const struct crd_schema *s, yyjson_val *obj, struct field_errors *e);
/* Is the text of the format? Of those that are not known, every text is. */
bool crd_format_fits(const char *format, const char *text);
/* Is the schema one that may be served? */
void crd_schema_check(yyjson_val *schema, const char *path, struct field_errors *e, struct strlist *warnings);

/* The kinds of a CRD: one for each served version, each to be given up with kind_unref. */
size_t crd_kinds(yyjson_val *crd, const struct kind **out, size_t max);
/* The CRD that a custom kind came from. */
const char *crd_name_of(const struct kind *k);
/* Order of versions in discovery: v2 before v1 before v1beta2 before v1alpha1 before others by name. As strcmp. */
int crd_version_compare(const char *a, const char *b);
