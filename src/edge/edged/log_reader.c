#include "edge/edged/log_reader.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/edged/cri_log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TAIL_STEP = 32 << 10 };

struct log_reader {
    char *path;
    struct log_options o;
    int fd;
    int64_t left; /* of the limit; -1: none */
    char *in;     /* LOG_PIECE bytes: the start of a line that is not complete yet */
    size_t in_len;
    bool too_long;   /* in the middle of a line that did not fit */
    bool in_line[2]; /* the last record of stdout, stderr was a part: the next one is no new line */
    bool since_over; /* the lines are young enough from here on */
};

/* ---- options ---- */

static int number(struct bytes query, const char *name, int64_t min, int64_t *out, struct error *err) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(64);
    if (!query_get(query, name, &text))
        return 0;
    if (parse_i64(buf_bytes(&text), min, INT64_MAX, out) < 0)
        return error_set(err, ERR_INVALID, "%s is no number of at least %d", name, (int)min);
    return 1;
}

static int flag(struct bytes query, const char *name, bool *out, struct error *err) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(64);
    if (!query_get(query, name, &text))
        return 0;
    if (text.len > 0 && parse_bool(buf_bytes(&text), out) < 0)
        return error_set(err, ERR_INVALID, "%s is neither true nor false", name);
    if (text.len == 0)
        *out = true;
    return 0;
}

static int read_since(struct bytes query, int64_t now_ns, struct log_options *o, struct error *err) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(128);
    int64_t seconds = 0;
    int some = number(query, "sinceSeconds", 1, &seconds, err);
    if (some < 0)
        return -1;
    bool time = query_get(query, "sinceTime", &text);
    if (time && some)
        return error_set(err, ERR_UNSUPPORTED, "at most one of sinceTime or sinceSeconds may be specified");
    if (time && rfc3339_parse(buf_bytes(&text), &o->since_ns) < 0)
        return error_set(err, ERR_INVALID, "sinceTime is no RFC 3339 time");
    if (some)
        o->since_ns = seconds < now_ns / 1000000000 ? now_ns - seconds * 1000000000 : 1;
    return 0;
}

int log_options_read(struct bytes query, int64_t now_ns, struct log_options *o, struct error *err) {
    *o = (struct log_options){.tail = -1, .limit = -1};
    if (flag(query, "follow", &o->follow, err) < 0 || flag(query, "previous", &o->previous, err) < 0 ||
        flag(query, "timestamps", &o->timestamps, err) < 0 || number(query, "tailLines", 0, &o->tail, err) < 0 ||
        number(query, "limitBytes", 1, &o->limit, err) < 0)
        return -1;
    return read_since(query, now_ns, o, err);
}

/* ---- files ---- */

struct log_reader *log_reader_new(const char *path, const struct log_options *o) {
    struct log_reader *r = NEW(struct log_reader);
    r->path = xstrdup(path);
    r->o = *o;
    r->fd = -1;
    r->left = o->limit;
    r->since_over = o->since_ns == 0;
    r->in = xmalloc(LOG_PIECE);
    return r;
}

void log_reader_free(struct log_reader *r) {
    if (!r)
        return;
    if (r->fd >= 0)
        close(r->fd);
    free(r->path);
    free(r->in);
    free(r);
}

static int open_log(const char *path, struct stat *st, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return error_set_errno(err, errno, "open the log file %s", path);
    if (fstat(fd, st) < 0 || !S_ISREG(st->st_mode)) {
        close(fd);
        return error_set(err, ERR_IO, "the log %s is no regular file", path);
    }
    return fd;
}

/* Where the last `lines` lines begin. What is behind the last newline is being written, and counts for nothing. */
static off_t tail_start(int fd, off_t size, int64_t lines) {
    char step[TAIL_STEP];
    int64_t newlines = 0;
    for (off_t end = size; end > 0;) {
        off_t start = end > TAIL_STEP ? end - TAIL_STEP : 0;
        ssize_t n = pread(fd, step, (size_t)(end - start), start);
        if (n != end - start)
            return size;
        for (ssize_t i = n; i > 0; i--)
            if (step[i - 1] == '\n' && newlines++ == lines)
                return start + i;
        end = start;
    }
    return 0;
}

static int begin(struct log_reader *r, struct error *err) {
    struct stat st;
    r->fd = open_log(r->path, &st, err);
    if (r->fd < 0)
        return -1;
    if (r->o.tail >= 0)
        lseek(r->fd, tail_start(r->fd, st.st_size, r->o.tail), SEEK_SET);
    return 0;
}

/* At the end of the file: was it rotated away, or cut? True: there is another to read from its start. */
static bool went_on(struct log_reader *r) {
    struct stat ours, now;
    if (fstat(r->fd, &ours) < 0 || stat(r->path, &now) < 0)
        return false;
    if (ours.st_dev == now.st_dev && ours.st_ino == now.st_ino) {
        if (lseek(r->fd, 0, SEEK_CUR) <= ours.st_size)
            return false;
        r->in_len = 0;
        return lseek(r->fd, 0, SEEK_SET) == 0;
    }
    int fd = open_log(r->path, &now, NULL);
    if (fd < 0)
        return false;
    close(r->fd);
    r->fd = fd;
    r->in_len = 0;
    r->too_long = false;
    return true;
}

/* ---- lines ---- */

static bool too_old(struct log_reader *r, struct bytes time) {
    int64_t ns;
    if (r->since_over)
        return false;
    if (rfc3339_parse(time, &ns) < 0 || ns < r->o.since_ns)
        return true;
    r->since_over = true;
    return false;
}

static void put(struct log_reader *r, struct buf *out, struct bytes text) {
    if (r->left >= 0 && (uint64_t)r->left < text.len)
        text.len = (size_t)r->left;
    if (buf_add_bytes(out, text) == 0 && r->left >= 0)
        r->left -= (int64_t)text.len;
}

static void put_line(struct log_reader *r, struct bytes line, struct buf *out) {
    struct cri_log_line l;
    if (!cri_log_parse(line, &l) || too_old(r, l.time))
        return;
    if (r->o.timestamps && !r->in_line[l.is_stderr]) {
        put(r, out, l.time);
        put(r, out, BYTES_LIT(" "));
    }
    put(r, out, l.text);
    r->in_line[l.is_stderr] = l.partial;
}

/* Writes out the lines that are complete. A line is never longer than what it was read from, so out has room. */
static void put_lines(struct log_reader *r, struct buf *out) {
    size_t at = 0;
    while (at < r->in_len && r->left != 0) {
        const char *nl = memchr(r->in + at, '\n', r->in_len - at);
        if (!nl)
            break;
        size_t end = (size_t)(nl - r->in) + 1;
        if (!r->too_long)
            put_line(r, bytes_of(r->in + at, end - at), out);
        r->too_long = false;
        at = end;
    }
    memmove(r->in, r->in + at, r->in_len - at);
    r->in_len -= at;
    if (r->in_len == LOG_PIECE) { /* runtimes cut lines at 16 KiB: this is none of theirs */
        r->in_len = 0;
        r->too_long = true;
    }
}

int log_reader_next(struct log_reader *r, struct buf *out, enum log_state *state, struct error *err) {
    if (r->fd < 0 && begin(r, err) < 0)
        return -1;
    ssize_t n = read(r->fd, r->in + r->in_len, LOG_PIECE - r->in_len);
    if (n < 0)
        return error_set_errno(err, errno, "read the log file %s", r->path);
    r->in_len += (size_t)n;
    put_lines(r, out);
    *state = n > 0 || went_on(r) ? LOG_MORE : LOG_END;
    if (r->left == 0)
        *state = LOG_OVER;
    return 0;
}
