#define LOG_COMPONENT "child"
#include "net/child.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_LINE 4096
#define KILL_WAIT_MS 500 /* how long child_free waits for a killed process to be gone */

struct child {
    struct loop *loop;
    pid_t pid;
    int pidfd;
    int output; /* -1: none, or at its end */
    struct fdwatch *exit_watch, *output_watch;
    struct timer *kill_timer;
    void (*line)(void *arg, struct bytes line);
    void (*exited)(void *arg, int wait_status);
    void *arg;
    char *name;
    struct buf pending; /* of the last line, until its end comes */
    bool line_cut;      /* the rest of this line is dropped */
    bool gone;
    unsigned busy; /* our handlers on the stack */
    bool freed;
};

/* ---- the new process: only system calls between fork and exec
 * -------------------------------------------------------- */

struct spawn {
    const char *path;
    const char *const *argv;
    const char *const *envp;
    int output; /* -1: our stderr */
    int report; /* errno of a failed exec goes here */
    pid_t parent;
    bool die_with_parent;
};

NORETURN static void child_fail(const struct spawn *s) {
    int errnum = errno;
    ssize_t ignored UNUSED = write(s->report, &errnum, sizeof errnum);
    _exit(127);
}

/* Every descriptor of ours is closed by exec, also one that a library forgot to mark. */
static void close_on_exec_from(unsigned first) {
    syscall(SYS_close_range, first, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */);
}

NORETURN static void child_main(const struct spawn *s) {
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int signo = 1; signo < 32; signo++)
        sigaction(signo, &dfl, NULL); /* an ignored SIGPIPE would be inherited */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* Ctrl-C is for us; we end our children in order */
    if (s->die_with_parent) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != s->parent) /* it died before that */
            _exit(127);
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int out = s->output >= 0 ? s->output : STDERR_FILENO;
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
        child_fail(s);
    close_on_exec_from(STDERR_FILENO + 1);
    execve(s->path, (char *const *)s->argv, (char *const *)s->envp);
    child_fail(s);
}

/* The program's path: as given, or the first that is found in PATH. */
static char *find_program(const char *name, struct error *err) {
    if (strchr(name, '/')) {
        if (access(name, X_OK) < 0) {
            error_set_errno(err, errno, "program %s", name);
            return NULL;
        }
        return xstrdup(name);
    }
    struct bytes dirs =
        bytes_str(str_or(getenv("PATH"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    for (bool more = true; more;) {
        struct bytes dir, rest = BYTES_EMPTY;
        more = bytes_cut(dirs, ':', &dir, &rest);
        dirs = rest;
        if (dir.len == 0)
            continue;
        char *path = xasprintf("%.*s/%s", (int)dir.len, dir.ptr, name);
        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    error_set(err, ERR_NOT_FOUND, "program %s: not found in PATH", name);
    return NULL;
}

static int make_pipe(int fds[2], struct error *err) {
    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_set_errno(err, errno, "pipe for a child process");
    return 0;
}

/* Forks; returns when the child has executed its program or said why it could not. */
static pid_t spawn(struct spawn *s, struct error *err) {
    int report[2], errnum = 0;
    if (make_pipe(report, err) < 0)
        return -1;
    s->report = report[1];
    s->parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        child_main(s);
    int fork_errno = errno;
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return error_set_errno(err, fork_errno, "fork for %s", s->path);
    }
    ssize_t n;
    do {
        n = read(report[0], &errnum, sizeof errnum);
    } while (n < 0 && errno == EINTR);
    close(report[0]);
    if (n == (ssize_t)sizeof errnum) {
        waitpid(pid, NULL, 0);
        return error_set_errno(err, errnum, "execute %s", s->path);
    }
    return pid;
}

/* ---- its output
 * -------------------------------------------------------------------------------------------------------- */

static void enter(struct child *c) {
    c->busy++;
}

static void destroy(struct child *c) {
    fdwatch_free(c->exit_watch);
    fdwatch_free(c->output_watch);
    timer_free(c->kill_timer);
    close_fd_p(&c->pidfd);
    close_fd_p(&c->output);
    buf_free(&c->pending);
    free(c->name);
    free(c);
}

static void leave(struct child *c) {
    if (--c->busy == 0 && c->freed)
        destroy(c);
}

static void tell_line(struct child *c, struct bytes line) {
    if (line.len > 0 && line.ptr[line.len - 1] == '\r')
        line.len--;
    if (!c->freed && c->line)
        c->line(c->arg, line);
}

static void split_lines(struct child *c, struct bytes in) {
    struct bytes head, rest;
    while (!c->freed && in.len > 0) {
        bool ended = bytes_cut(in, '\n', &head, &rest);
        if (!c->line_cut) {
            size_t room = MAX_LINE - c->pending.len;
            buf_add(&c->pending, head.ptr, head.len < room ? head.len : room);
            c->line_cut = head.len > room;
        }
        if (!ended)
            return;
        tell_line(c, buf_bytes(&c->pending));
        buf_clear(&c->pending);
        c->line_cut = false;
        in = rest;
    }
}

static void output_ended(struct child *c) {
    fdwatch_free(TAKE(c->output_watch));
    close_fd_p(&c->output);
    c->output = -1;
    if (c->pending.len > 0)
        tell_line(c, buf_bytes(&c->pending));
    buf_clear(&c->pending);
}

/* Reads what is there, at most `rounds` times, so that a child that writes without end does not hold the loop. */
static void read_output(struct child *c, int rounds) {
    char chunk[MAX_LINE];
    while (c->output >= 0 && !c->freed && rounds-- > 0) {
        ssize_t n = read(c->output, chunk, sizeof chunk);
        if (n > 0)
            split_lines(c, bytes_of(chunk, (size_t)n));
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            output_ended(c);
        else if (errno == EAGAIN)
            return;
    }
}

static void output_event(void *arg, unsigned what) {
    struct child *c = arg;
    enter(c);
    read_output(c, 8);
    leave(c);
}

/* ---- its end
 * ----------------------------------------------------------------------------------------------------------- */

static void exit_event(void *arg, unsigned what) {
    struct child *c = arg;
    int status = 0;
    if (waitpid(c->pid, &status, WNOHANG) == 0)
        return;
    enter(c);
    c->gone = true;
    timer_stop(c->kill_timer);
    fdwatch_free(TAKE(c->exit_watch));
    read_output(c, 64); /* its last words; a grandchild may hold the pipe open, so no waiting for its end */
    if (c->output >= 0)
        output_ended(c);
    if (!c->freed && c->exited)
        c->exited(c->arg, status);
    leave(c);
}

static void send_signal(struct child *c, int signo) {
    if (!c->gone && syscall(SYS_pidfd_send_signal, c->pidfd, signo, NULL, 0) < 0 && errno != ESRCH)
        log_warn("cannot signal a child process name=%s pid=%d: %s", c->name, (int)c->pid, strerror(errno));
}

static void kill_event(void *arg) {
    struct child *c = arg;
    log_warn("child process did not end in time; killing it name=%s pid=%d", c->name, (int)c->pid);
    send_signal(c, SIGKILL);
}

void child_stop(struct child *c, int grace_ms) {
    if (c->gone)
        return;
    send_signal(c, SIGTERM);
    timer_set(c->kill_timer, grace_ms);
}

void child_free(struct child *c) {
    if (!c || c->freed)
        return;
    c->freed = true;
    if (!c->gone) {
        struct pollfd p = {.fd = c->pidfd, .events = POLLIN};
        send_signal(c, SIGKILL);
        /* A process stuck in the kernel is left to init rather than holding us up. */
        if (poll(&p, 1, KILL_WAIT_MS) == 1)
            waitpid(c->pid, NULL, WNOHANG);
        c->gone = true;
    }
    if (c->busy == 0)
        destroy(c);
}

/* ---- its start
 * ---------------------------------------------------------------------------------------------------------- */

pid_t child_pid(const struct child *c) {
    return c->pid;
}

struct child *child_start(struct loop *l, const struct child_options *o, struct error *err) {
    _cleanup_(free_p) char *path = find_program(o->argv[0], err);
    _cleanup_(close_fd_p) int output = -1;
    int fds[2] = {-1, -1};
    if (!path || (o->line && make_pipe(fds, err) < 0))
        return NULL;
    output = fds[0];
    struct spawn s = {.path = path,
                      .argv = o->argv,
                      .envp = o->envp ? o->envp : (const char *const *)environ,
                      .output = fds[1],
                      .die_with_parent = o->die_with_parent};
    pid_t pid = spawn(&s, err);
    if (fds[1] >= 0)
        close(fds[1]);
    if (pid < 0)
        return NULL;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        error_set_errno(err, errno, "watch child process %s", path);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return NULL;
    }
    struct child *c = NEW(struct child);
    *c = (struct child){.loop = l, .pid = pid, .pidfd = pidfd, .output = output, .line = o->line};
    c->exited = o->exited;
    c->arg = o->arg;
    c->name = xstrdup(o->argv[0]);
    c->pending = BUF_INIT(MAX_LINE);
    c->kill_timer = timer_new(l, kill_event, c);
    c->exit_watch = fdwatch_new(l, pidfd, FD_READ, exit_event, c);
    if (output >= 0) {
        fcntl(output, F_SETFL, O_NONBLOCK);
        c->output_watch = fdwatch_new(l, output, FD_READ, output_event, c);
    }
    output = -1;
    return c;
}
