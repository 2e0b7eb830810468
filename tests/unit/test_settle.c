#include "edge/settle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char text[] = "a constant of the program";
static const char *const pointers[] = {text, "relocated at start"}; /* read-only after having been written */
static int variable = 7;

static void code_constants_and_data_are_the_same_after_settling(void **state) {
    char *heap = strdup("on the heap");
    variable = 8;
    for (int i = 0; i < 3; i++)
        settle_memory();
    assert_string_equal(text, "a constant of the program");
    assert_ptr_equal(pointers[0], text);
    assert_string_equal(pointers[1], "relocated at start");
    assert_int_equal(variable, 8);
    assert_string_equal(heap, "on the heap");
    assert_int_equal((int)strlen(pointers[0]), 25); /* code of a library */
    free(heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(code_constants_and_data_are_the_same_after_settling)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
