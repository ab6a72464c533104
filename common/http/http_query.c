/* http_query.c - percent-escapes and query strings; see http.h.
 * Does not: check them; what the parser has let through is well formed. */
#include "http/http_grammar.h"

ssize_t http_unescape(struct slice in, bool plus, char *out, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < in.len; i++, n++) {
        char c = in.base[i];

        int high = c == '%' && in.len - i > 2 ? hex_value(in.base[i + 1]) : -1;
        int low = high >= 0 ? hex_value(in.base[i + 2]) : -1;

        if (low >= 0) { /* what the parser has let through is always so */
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus)
            c = ' ';
        if (n == cap)
            return -1;
        out[n] = c;
    }
    return (ssize_t)n;
}

ssize_t http_query(struct slice query, const char *key, char *value, size_t cap)
{
    size_t key_len = strlen(key);
    const char *end = query.base + query.len;

    for (const char *c = query.base; c < end;) {
        const char *stop = memchr(c, '&', (size_t)(end - c));
        ssize_t len;

        if (stop == NULL)
            stop = end;
        if ((size_t)(stop - c) > key_len && memcmp(c, key, key_len) == 0 &&
            c[key_len] == '=') {
            c += key_len + 1;
            len = http_unescape((struct slice){ c, (size_t)(stop - c) }, true, value,
                                cap - 1);
            if (len < 0 || memchr(value, '\0', (size_t)len) != NULL)
                return -2;
            value[len] = '\0';
            return len;
        }
        c = stop + 1;
    }
    return -1;
}
