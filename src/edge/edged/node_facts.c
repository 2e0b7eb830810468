#include "edge/edged/node_facts.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#define TEXT_MAX (1u << 20)

static void copy(char *out, size_t size, struct bytes s) {
    size_t n = s.len < size - 1 ? s.len : size - 1;
    if (n > 0)
        memcpy(out, s.ptr, n);
    out[n] = 0;
}

/* The file's text without white space around it, "" if it cannot be read. */
static void read_word(const char *path, char *out, size_t size) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(TEXT_MAX);
    out[0] = 0;
    if (file_read(path, &text, NULL) == 0)
        copy(out, size, bytes_trim(buf_bytes(&text)));
}

static int64_t read_number(const char *path) {
    char word[32];
    int64_t n;
    read_word(path, word, sizeof(word));
    return parse_i64(bytes_str(word), 0, INT64_MAX, &n) == 0 ? n : 0;
}

static bool next_line(struct bytes *text, struct bytes *line) {
    if (text->len == 0)
        return false;
    struct bytes rest = BYTES_EMPTY;
    (void)bytes_cut(*text, '\n', line, &rest);
    if (!memchr(text->ptr, '\n', text->len))
        *line = *text;
    *text = rest;
    return true;
}

int64_t meminfo_field(struct bytes meminfo, const char *name) {
    struct bytes line, key, value, number;
    while (next_line(&meminfo, &line)) {
        if (!bytes_cut(line, ':', &key, &value) || !bytes_eq_str(key, name))
            continue;
        value = bytes_trim(value);
        if (!bytes_cut(value, ' ', &number, NULL))
            number = value;
        int64_t kib;
        return parse_i64(number, 0, INT64_MAX / 1024, &kib) == 0 ? kib * 1024 : 0;
    }
    return 0;
}

void os_release_name(struct bytes os_release, char *out, size_t size) {
    struct bytes line, key, value;
    out[0] = 0;
    while (next_line(&os_release, &line)) {
        if (!bytes_cut(line, '=', &key, &value) || !bytes_eq_str(key, "PRETTY_NAME"))
            continue;
        if (value.len >= 2 && (value.ptr[0] == '"' || value.ptr[0] == '\'')) {
            value.ptr++;
            value.len -= 2;
        }
        copy(out, size, value);
    }
}

bool default_route_interface(struct bytes route, char *out, size_t size) {
    struct bytes line, name, rest, destination;
    while (next_line(&route, &line))
        if (bytes_cut(line, '\t', &name, &rest) && bytes_cut(rest, '\t', &destination, NULL) &&
            bytes_eq_str(destination, "00000000")) {
            copy(out, size, bytes_trim(name));
            return true;
        }
    return false;
}

static const char *go_architecture(const char *machine) {
    static const struct {
        const char *machine, *go;
    } names[] = {{"x86_64", "amd64"}, {"aarch64", "arm64"},       {"riscv64", "riscv64"}, {"ppc64le", "ppc64le"},
                 {"s390x", "s390x"},  {"loongarch64", "loong64"}, {"mips64", "mips64"},   {"mips", "mips"}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(machine, names[i].machine) == 0)
            return names[i].go;
    if (str_starts_with(machine, "arm"))
        return "arm";
    if (machine[0] == 'i' && str_ends_with(machine, "86"))
        return "386";
    return "unknown";
}

static void read_identity(struct node_facts *f) {
    struct utsname u;
    _cleanup_(buf_free) struct buf text = BUF_INIT(TEXT_MAX);
    read_word("/etc/machine-id", f->machine_id, sizeof(f->machine_id));
    read_word("/sys/class/dmi/id/product_uuid", f->system_uuid, sizeof(f->system_uuid));
    if (!*f->system_uuid)
        copy(f->system_uuid, sizeof(f->system_uuid), bytes_str(f->machine_id));
    read_word("/proc/sys/kernel/random/boot_id", f->boot_id, sizeof(f->boot_id));
    f->architecture = "unknown";
    if (uname(&u) == 0) {
        copy(f->kernel, sizeof(f->kernel), bytes_str(u.release));
        f->architecture = go_architecture(u.machine);
    }
    if (file_read("/etc/os-release", &text, NULL) == 0)
        os_release_name(buf_bytes(&text), f->os_image, sizeof(f->os_image));
    f->cgroup_v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
}

static void read_hugepages(struct node_facts *f) {
    DIR *d = opendir("/sys/kernel/mm/hugepages");
    struct dirent *e;
    while (d && (e = readdir(d)) && f->n_hugepages < NODE_HUGEPAGE_SIZES) {
        struct bytes name = bytes_str(e->d_name);
        int64_t kib;
        if (!bytes_starts_with(name, "hugepages-") || !bytes_ends_with(name, "kB") ||
            parse_i64(bytes_of(name.ptr + 10, name.len - 12), 1, INT64_MAX / 1024, &kib) < 0)
            continue;
        _cleanup_(free_p) char *path = xasprintf("/sys/kernel/mm/hugepages/%s/nr_hugepages", e->d_name);
        f->hugepages[f->n_hugepages].size_kib = kib;
        f->hugepages[f->n_hugepages++].pages = read_number(path);
    }
    if (d)
        closedir(d);
}

/* The root directory may not have been made yet: its parents are on the same filesystem. */
static int statvfs_upwards(const char *path, struct statvfs *st) {
    _cleanup_(free_p) char *p = xstrdup(path);
    for (;;) {
        if (statvfs(p, st) == 0)
            return 0;
        char *slash = strrchr(p, '/');
        if (!slash || slash == p)
            return statvfs("/", st);
        *slash = 0;
    }
}

void node_amounts_read(const struct edged_config *c, struct node_facts *f) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(TEXT_MAX);
    struct statvfs st;
    f->cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (file_read("/proc/meminfo", &text, NULL) == 0) {
        f->memory = meminfo_field(buf_bytes(&text), "MemTotal");
        f->memory_available = meminfo_field(buf_bytes(&text), "MemAvailable");
    }
    if (statvfs_upwards(c->root_directory, &st) == 0) {
        f->disk = (int64_t)(st.f_blocks * st.f_frsize);
        f->disk_available = (int64_t)(st.f_bavail * st.f_frsize);
        f->inodes = (int64_t)st.f_files;
        f->inodes_free = (int64_t)st.f_favail;
    }
    char load[128];
    struct bytes threads;
    read_word("/proc/loadavg", load, sizeof(load)); /* "0.1 0.2 0.3 2/345 6789": 345 threads */
    if (bytes_cut(bytes_str(load), '/', NULL, &threads)) {
        (void)bytes_cut(threads, ' ', &threads, NULL);
        if (parse_i64(threads, 0, INT64_MAX, &f->pids_running) < 0)
            f->pids_running = 0;
    }
    f->pids_max = read_number("/proc/sys/kernel/pid_max");
}

/* The first usable address of an interface (NULL: of any), IPv4 before IPv6. */
static bool interface_address(const char *interface, char *out, size_t size) {
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        return false;
    static const int families[] = {AF_INET, AF_INET6};
    bool found = false;
    for (size_t i = 0; i < ARRAY_LEN(families) && !found; i++)
        for (struct ifaddrs *a = all; a && !found; a = a->ifa_next) {
            if (!a->ifa_addr || a->ifa_addr->sa_family != families[i] || (a->ifa_flags & IFF_LOOPBACK) ||
                !(a->ifa_flags & IFF_UP) || (interface && strcmp(a->ifa_name, interface) != 0))
                continue;
            const void *address = &((const struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr;
            if (families[i] == AF_INET6) {
                const struct in6_addr *six = &((const struct sockaddr_in6 *)(void *)a->ifa_addr)->sin6_addr;
                if (IN6_IS_ADDR_LINKLOCAL(six))
                    continue;
                address = six;
            }
            found = inet_ntop(families[i], address, out, (socklen_t)size) != NULL;
        }
    freeifaddrs(all);
    return found;
}

static bool is_address(const char *s) {
    struct in6_addr a;
    return inet_pton(AF_INET, s, &a) == 1 || inet_pton(AF_INET6, s, &a) == 1;
}

/* nodeIP, the configured interface, a node name that is an address, the default route's interface, any interface. The
 * name is not looked up: that would wait for a resolver that an offline node does not have. */
static void read_address(const struct edged_config *c, struct node_facts *f) {
    char interface[IF_NAMESIZE];
    _cleanup_(buf_free) struct buf route = BUF_INIT(TEXT_MAX);
    f->ip[0] = 0;
    if (!str_empty(c->node_ip))
        copy(f->ip, sizeof(f->ip), bytes_str(c->node_ip));
    else if (!str_empty(c->interface_name))
        (void)interface_address(c->interface_name, f->ip, sizeof(f->ip));
    else if (is_address(c->node_name))
        copy(f->ip, sizeof(f->ip), bytes_str(c->node_name));
    else if (file_read("/proc/net/route", &route, NULL) < 0 ||
             !default_route_interface(buf_bytes(&route), interface, sizeof(interface)) ||
             !interface_address(interface, f->ip, sizeof(f->ip)))
        (void)interface_address(NULL, f->ip, sizeof(f->ip));
}

void node_facts_read(const struct edged_config *c, struct node_facts *out) {
    *out = (struct node_facts){0};
    read_identity(out);
    node_amounts_read(c, out);
    read_hugepages(out);
    read_address(c, out);
}
