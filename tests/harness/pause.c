/* The process that holds a pod's namespaces open: waits, reaps, and leaves on SIGTERM or SIGINT. Built statically, put
 * into an image of its own, because no image can be pulled where the tests run. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signo) {
    (void)signo;
    _exit(0);
}

static void reap(int signo) {
    (void)signo;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

int main(void) {
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    signal(SIGCHLD, reap);
    for (;;) {
        pause();
    }
}
