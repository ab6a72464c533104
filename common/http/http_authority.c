/* http_authority.c - see http_authority.h.
 * Does not: ask whether the host is this one; any name will do. */
#include "http/http_authority.h"

#include <arpa/inet.h>

static bool is_ipv6(const char *bytes, size_t len)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (len >= sizeof(text))
        return false;
    memcpy(text, bytes, len);
    text[len] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

bool http_authority_valid(struct slice a)
{
    const char *end = a.base + a.len;
    const char *c;
    int port = 0;

    if (a.len > 0 && *a.base == '[') {
        c = skip(a.base + 1, end, ADDRESS);
        if (c == end || *c != ']' || !is_ipv6(a.base + 1, (size_t)(c - a.base - 1)))
            return false;
        c++;
    } else {
        c = skip(a.base, end, HOST);
        while (end - c >= 3 && *c == '%' && hex_value(c[1]) >= 0 && hex_value(c[2]) >= 0)
            c = skip(c + 3, end, HOST);
        if (c == a.base)
            return false;
    }
    if (c < end && *c++ != ':')
        return false;
    for (; c < end; c++) {
        port = port * 10 + (*c - '0');
        if (!is_digit(*c) || port > 65535)
            return false;
    }
    return true;
}

static char to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

int http_absolute_form(struct http_parser *p, const char **c, const char *end)
{
    static const char schemes[2][9] = { "http://", "https://" };
    const char *s = *c;
    struct slice authority;

    for (int i = 0; i < 2; i++) {
        size_t len = strlen(schemes[i]);
        size_t have = (size_t)(end - s) < len ? (size_t)(end - s) : len;
        size_t same = 0;

        while (same < have && to_lower(s[same]) == schemes[i][same])
            same++;
        if (same < have)
            continue;
        if (have < len)
            return MORE;
        authority.base = s + len;
        for (s += len; s < end && *s != '/' && *s != '?' && *s != ' '; s++)
            if (!is(*s, HOST | ADDRESS) && strchr("[]%", *s) == NULL)
                return http_refuse(p, 400, "invalid authority in the target");
        authority.len = (size_t)(s - authority.base);
        if (s == end)
            return MORE;
        *c = s;
        if (!http_authority_valid(authority))
            return http_refuse(p, 400, "invalid authority in the target");
        return i == 0 ? NEXT : http_refuse(p, 421, "https is asked for without TLS");
    }
    return http_refuse(p, 400, "target is neither a path nor an http URI");
}
