/* Text into HTML and SVG. Whatever comes from a file or a server goes through here. */
#ifndef TRACES_RESULTS_HTML_H
#define TRACES_RESULTS_HTML_H

#include "base/strbuf.h"

/* As text or as the value of an attribute in quotes, in HTML and in XML: the five special
 * characters by number, control characters other than a newline and bytes that are no UTF-8 as
 * U+FFFD. */
void html_text(struct strbuf *out, const char *text);

/* What `format` makes, escaped. */
void html_format(struct strbuf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
