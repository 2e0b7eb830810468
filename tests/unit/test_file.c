#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int make_dir(void **state) {
    snprintf(dir, sizeof(dir), "/tmp/selvage-file-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    return dir_remove(dir, NULL);
}

static char *in_dir(const char *name) {
    return xasprintf("%s/%s", dir, name);
}

static void what_is_written_is_read_with_its_mode(void **state) {
    _cleanup_(free_p) char *path = in_dir("key");
    struct error err = ERROR_INIT;
    assert_int_equal(file_write_atomic(path, BYTES_LIT("secret"), 0600, &err), 0);
    assert_int_equal(file_write_atomic(path, BYTES_LIT("new"), 0600, &err), 0);
    _cleanup_(buf_free) struct buf text = BUF_INIT(3);
    assert_int_equal(file_read(path, &text, &err), 0);
    assert_string_equal(text.ptr, "new");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_file_over_the_limit_is_refused(void **state) {
    _cleanup_(free_p) char *path = in_dir("big");
    assert_int_equal(file_write_atomic(path, BYTES_LIT("12345"), 0644, NULL), 0);
    _cleanup_(buf_free) struct buf text = BUF_INIT(4);
    struct error err = ERROR_INIT;
    assert_int_equal(file_read(path, &text, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    _cleanup_(buf_free) struct buf devices = BUF_INIT(100000);
    assert_int_equal(file_read("/dev/zero", &devices, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void a_missing_file_and_a_folder_are_named(void **state) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(10);
    struct error err = ERROR_INIT;
    assert_int_equal(file_read("/nowhere/x", &text, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "/nowhere/x"));
    assert_int_equal(file_read(dir, &text, &err), -1);
}

static void a_failed_write_leaves_the_old_file_and_no_other(void **state) {
    _cleanup_(free_p) char *folder = in_dir("d/e"), *path = in_dir("d/e/f"), *sub = in_dir("d");
    assert_int_equal(dir_make(folder, 0755, NULL), 0);
    struct error err = ERROR_INIT;
    assert_int_equal(file_write_atomic(folder, BYTES_LIT("x"), 0644, &err), -1); /* a folder of that name */
    assert_int_equal(file_write_atomic(path, BYTES_LIT("x"), 0644, &err), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0); /* so it was empty */
    assert_int_equal(rmdir(sub), 0);    /* and no temporary file lies beside it */
}

static void folders_are_made_with_their_parents(void **state) {
    _cleanup_(free_p) char *deep = in_dir("a/b//c/"), *file = in_dir("plain"), *below = in_dir("plain/x");
    struct error err = ERROR_INIT;
    assert_int_equal(dir_make(deep, 0700, &err), 0);
    assert_int_equal(dir_make(deep, 0700, &err), 0);
    assert_int_equal(file_write_atomic(file, BYTES_EMPTY, 0644, &err), 0);
    assert_int_equal(dir_make(below, 0700, &err), -1);
    assert_int_equal(dir_make("", 0700, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void removing_a_tree_does_not_follow_links(void **state) {
    _cleanup_(free_p) char *tree = in_dir("tree/sub"), *root = in_dir("tree"), *keep = in_dir("keep"),
                           *kept = in_dir("keep/file"), *link = in_dir("tree/sub/link"), *gone = in_dir("tree");
    assert_int_equal(dir_make(tree, 0755, NULL), 0);
    assert_int_equal(dir_make(keep, 0755, NULL), 0);
    assert_int_equal(file_write_atomic(kept, BYTES_LIT("x"), 0644, NULL), 0);
    assert_int_equal(symlink(keep, link), 0);
    struct error err = ERROR_INIT;
    assert_int_equal(dir_remove(root, &err), 0);
    assert_int_equal(access(gone, F_OK), -1);
    assert_int_equal(access(kept, F_OK), 0);
    assert_int_equal(dir_remove(root, &err), 0);
}

static void nothing_outside_of_a_folder_is_opened(void **state) {
    _cleanup_(free_p) char *inside = in_dir("in"), *link = in_dir("in/link"), *file = in_dir("in/file");
    assert_int_equal(dir_make(inside, 0755, NULL), 0);
    assert_int_equal(file_write_atomic(file, BYTES_LIT("x"), 0644, NULL), 0);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    _cleanup_(close_fd_p) int d = open(inside, O_RDONLY | O_DIRECTORY);
    static const char *const outside[] = {"../keep", "/etc/passwd", "link", "x/../../y"};
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(outside); i++)
        assert_int_equal(open_beneath(d, outside[i], O_RDONLY, 0, &err), -1);
    assert_int_equal(open_beneath(d, "link", O_RDONLY, 0, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    _cleanup_(close_fd_p) int f = open_beneath(d, "file", O_RDONLY, 0, &err);
    assert_true(f >= 0);
    _cleanup_(close_fd_p) int made = open_beneath(d, "made", O_WRONLY | O_CREAT, 0600, &err);
    assert_true(made >= 0);
    _cleanup_(close_fd_p) int folder = open_beneath(d, ".", O_RDONLY | O_DIRECTORY, 0, &err);
    assert_true(folder >= 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_with_its_mode),
        cmocka_unit_test(a_file_over_the_limit_is_refused),
        cmocka_unit_test(a_missing_file_and_a_folder_are_named),
        cmocka_unit_test(a_failed_write_leaves_the_old_file_and_no_other),
        cmocka_unit_test(folders_are_made_with_their_parents),
        cmocka_unit_test(removing_a_tree_does_not_follow_links),
        cmocka_unit_test(nothing_outside_of_a_folder_is_opened),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
