/* The embedded API server alone: for benches and for trying things by hand. apiserver_main <data folder> [port] */
#include "apiserver/apiserver.h"
#include "base/log.h"
#include "base/str.h"

#include <signal.h>
#include <stdio.h>

int main(int argc, char **argv) {
    struct error err = ERROR_INIT;
    struct apiserver *s;
    int64_t port = 0;
    sigset_t stop;
    if (argc < 2 || (argc > 2 && parse_i64(bytes_str(argv[2]), 0, 65535, &port) < 0)) {
        fprintf(stderr, "usage: apiserver_main <data folder> [port]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    const struct apiserver_options o = {.data_dir = argv[1], .port = (uint16_t)port};
    if (apiserver_start(&s, &o, &err) < 0) {
        log_error("%s", error_text(&err));
        return 1;
    }
    int signo;
    sigwait(&stop, &signo);
    apiserver_stop(s);
    return 0;
}
