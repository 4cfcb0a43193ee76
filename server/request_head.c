#include "server/request_head.h"
#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#define NAME_CHARACTERS                                              \
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" \
    "!#$%&'*+-.^_`|~" /* RFC 9110, token */
#define ID_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"

const char *head_value(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

void head_request_id(struct MHD_Connection *connection, char *id, size_t size)
{
    const char *given = head_value(connection, "X-Request-Id");
    size_t length = given ? strlen(given) : 0;
    if (length && length < size && strspn(given, ID_CHARACTERS) == length) {
        memcpy(id, given, length + 1);
        return;
    }
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) die("getrandom failed");
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(id + 2 * i, 3, "%02x", bytes[i]);
}

int64_t head_body_length(struct MHD_Connection *connection)
{
    if (head_value(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING)) return -1;
    const char *length = head_value(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
    unsigned long long number = length ? strtoull(length, NULL, 10) : 0;
    return number > INT64_MAX ? INT64_MAX : (int64_t)number;
}

/* --- one way to read it */

struct framing {
    int lengths, encodings;
    bool odd_name, odd_encoding;
};

static enum MHD_Result look_at_field(void *argument, enum MHD_ValueKind kind, const char *name,
                                     const char *value)
{
    (void)kind;
    struct framing *framing = argument;
    if (!*name || name[strspn(name, NAME_CHARACTERS)]) framing->odd_name = true;
    if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) framing->lengths++;
    if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        framing->encodings++;
        if (!value || strcasecmp(value, "chunked") != 0) framing->odd_encoding = true;
    }
    return MHD_YES;
}

bool head_is_clear(struct MHD_Connection *connection, struct api_error *error)
{
    struct framing framing = {0};
    MHD_get_connection_values(connection, MHD_HEADER_KIND, look_at_field, &framing);
    if (framing.odd_name)
        return refuse(error, REFUSAL_BAD_HTTP, NULL,
                      "a header field's name has a character that no name may have");
    if (framing.lengths + framing.encodings > 1)
        return refuse(error, REFUSAL_BAD_HTTP, NULL,
                      "the header gives the body's length more than once (%d Content-Length, %d "
                      "Transfer-Encoding)",
                      framing.lengths, framing.encodings);
    if (framing.odd_encoding)
        return refuse(error, REFUSAL_BAD_HTTP, NULL,
                      "Transfer-Encoding: the only one supported is chunked");
    return true;
}

bool head_is_small(struct MHD_Connection *connection, const struct server_limits *limits,
                   struct api_error *error)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    int64_t bytes = info ? (int64_t)info->header_size : 0;
    int count = MHD_get_connection_values(connection, MHD_HEADER_KIND, NULL, NULL);
    if (bytes > limits->max_header)
        return refuse(error, REFUSAL_HEADER_TOO_LARGE, NULL,
                      "the request header is %lld bytes long; at most %lld are allowed",
                      (long long)bytes, (long long)limits->max_header);
    if (count > limits->max_headers)
        return refuse(error, REFUSAL_HEADER_TOO_LARGE, NULL,
                      "the request has %d header fields; at most %d are allowed", count,
                      limits->max_headers);
    return true;
}

/* --- the target */

const char *head_path(const char *target)
{
    size_t scheme = strncasecmp(target, "http://", 7) == 0    ? 7
                    : strncasecmp(target, "https://", 8) == 0 ? 8
                                                              : 0;
    const char *path = scheme ? strchr(target + scheme, '/') : NULL;
    return path ? path : target;
}

size_t head_unescape(void *unused, struct MHD_Connection *connection, char *text)
{
    (void)unused, (void)connection;
    return strstr(text, "%00") ? strlen(text) : MHD_http_unescape(text);
}
