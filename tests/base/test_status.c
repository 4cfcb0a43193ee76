#include "base/status.h"
#include "base/base.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>

Test(status, text_of_a_file_cannot_play_with_the_terminal)
{
    struct error err = {0};
    cr_assert_eq(fail(&err, ST_BAD_FILE, "key %s", "a\x1b]0;x\x07\r\nb\x7f\xc2\x9bm"), ST_BAD_FILE);
    cr_assert_str_eq(err.text, "key a?]0;x???b???m");
    fail(&err, ST_BAD_FILE, "%s", "\xc3\xa9 \xe2\x82\xac \xc2\xa0 \xf0\x9f\x98\x80 \xc2");
    cr_assert_str_eq(err.text, "\xc3\xa9 \xe2\x82\xac \xc2\xa0 \xf0\x9f\x98\x80 \xc2");
}

Test(status, a_log_line_is_one_line, .init = cr_redirect_stderr)
{
    log_warn("model %s", "x\nespalier: serving\x1b[2J");
    fflush(stderr);
    cr_assert_stderr_eq_str("espalier: warning: model x?espalier: serving?[2J\n");
}
