/* http_grammar.c - see http_grammar.h.
 * Does not: know requests from responses. */
#include "http/http_grammar.h"

uint8_t http_classes[256];

static void mark(uint8_t class, const char *members)
{
    for (; *members; members++)
        http_classes[(uint8_t)*members] |= class;
}

/* Before main(): the tables are the grammar, written as it stands in the RFCs. */
__attribute__((constructor)) static void classes_setup(void)
{
    static const char alnum[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

    mark(TOKEN | PATH | QUERY | HOST, alnum);
    mark(TOKEN, "!#$%&'*+-.^_`|~");
    mark(PATH | QUERY | HOST, "-._~!$&'()*+,;=");
    mark(PATH | QUERY, ":@/");
    mark(QUERY, "?");
    mark(ADDRESS, "0123456789abcdefABCDEF:.");
    http_classes['\t'] |= TEXT;
    for (int c = ' '; c <= 0xff; c++)
        http_classes[c] |= TEXT;
    http_classes[0x7f] &= (uint8_t)~TEXT;
}

bool http_next_element(struct slice *list, struct slice *element)
{
    const char *c = list->base;
    const char *end, *comma;

    if (c == NULL)
        return false;
    end = c + list->len;
    comma = memchr(c, ',', list->len);
    *list = comma ? (struct slice){ comma + 1, (size_t)(end - comma - 1) }
                  : (struct slice){ 0 };
    if (comma)
        end = comma;
    while (c < end && (*c == ' ' || *c == '\t'))
        c++;
    while (c < end && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *element = (struct slice){ c, (size_t)(end - c) };
    return true;
}
