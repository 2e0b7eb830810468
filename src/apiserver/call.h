/* One HTTP request for a resource, and how it is answered. */
#pragma once

#include "apiserver/auth.h"
#include "apiserver/path.h"
#include "apiserver/write.h"

struct call {
    struct apiserver *s;
    struct http_request *http;
    struct api_path path;
    struct identity id;
    const struct kind *kind; /* borrowed: a call does not wait */
    enum answer_form form;
    struct query_options q;
    struct fail fail;
};

/* serve_write.c: answer, now or later. */
void serve_write(struct call *c, enum write_verb verb);
/* list says which; it is taken over. */
void serve_delete_collection(struct call *c, struct collection *list);

/* answer.c */
void answer_headers(struct http_request *r); /* those of every answer */
void answer_warnings(struct http_request *r, const struct strlist *warnings);
