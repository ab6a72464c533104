/* crowd_answer.c - see crowd_answer.h.
 * Does not: judge whether an answer is the right one. */
#include "crowd_answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

uint64_t answer_hash(uint64_t hash, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* The text behind "Name:" and its blanks, or NULL if this is another field. */
static const char *value_of(const char *line, const char *name)
{
    size_t n = strlen(name);

    if (strncasecmp(line, name, n) != 0 || line[n] != ':')
        return NULL;
    return line + n + 1 + strspn(line + n + 1, " \t");
}

static bool status_line(struct answer *a)
{
    const char *line = a->line;

    if (strncmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') ||
        line[8] != ' ' || strspn(line + 9, "0123456789") != 3)
        return false;
    a->close = line[7] == '0';
    a->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + line[11] - '0';
    return true;
}

static bool field_line(struct answer *a)
{
    const char *value;
    char *end;

    if ((value = value_of(a->line, "Content-Length"))) {
        if (a->sized || *value < '0' || *value > '9')
            return false;
        errno = 0;
        a->left = strtoull(value, &end, 10);
        a->sized = true;
        return errno == 0 && end[strspn(end, " \t")] == '\0';
    }
    if ((value = value_of(a->line, "Connection"))) {
        if (strncasecmp(value, "close", 5) == 0)
            a->close = true;
        else if (strncasecmp(value, "keep-alive", 10) == 0)
            a->close = false;
    }
    return !value_of(a->line, "Transfer-Encoding");
}

/* The empty line behind the fields. */
static enum answer_verdict head_ends(struct answer *a)
{
    if (a->status < 200) { /* an interim answer; the real one follows */
        *a = (struct answer){ .started = true };
        return ANSWER_MORE;
    }
    if (!a->sized && a->status != 204 && a->status != 304)
        return ANSWER_MALFORMED;
    a->in_body = true;
    a->hash = ANSWER_HASH;
    return a->left == 0 ? ANSWER_COMPLETE : ANSWER_MORE;
}

static enum answer_verdict line_ends(struct answer *a)
{
    bool right;

    while (a->line_len > 0 && a->line[a->line_len - 1] == '\r')
        a->line_len--;
    a->line[a->line_len] = '\0';
    if (a->status != 0 && a->line_len == 0)
        return head_ends(a);
    right = a->status == 0 ? status_line(a) : field_line(a);
    a->line_len = 0;
    return right ? ANSWER_MORE : ANSWER_MALFORMED;
}

static void keep(struct answer *a, const char *bytes, size_t n)
{
    size_t room = ANSWER_LINE - 1U - a->line_len;

    if (n > room)
        n = room;
    memcpy(a->line + a->line_len, bytes, n);
    a->line_len = (uint8_t)(a->line_len + n);
}

enum answer_verdict answer_feed(struct answer *a, const char *bytes, size_t n,
                                size_t *used)
{
    enum answer_verdict verdict = ANSWER_MORE;
    size_t at = 0;

    a->started |= n > 0;
    while (at < n && !a->in_body && verdict == ANSWER_MORE) {
        const char *end = memchr(bytes + at, '\n', n - at);
        size_t len = end ? (size_t)(end - bytes) - at : n - at;

        keep(a, bytes + at, len);
        at += len + (end != NULL);
        if (end)
            verdict = line_ends(a);
    }
    if (a->in_body && verdict == ANSWER_MORE) {
        size_t len = n - at < a->left ? n - at : (size_t)a->left;

        a->hash = answer_hash(a->hash, bytes + at, len);
        a->len += len;
        a->left -= len;
        at += len;
        if (a->left == 0)
            verdict = ANSWER_COMPLETE;
    }
    *used = at;
    return verdict;
}
