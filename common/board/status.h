/* status.h - print what the scoreboard and the kernel know of a running server.
 * Does not: ask the server; it answers for one that hangs, too. */
#ifndef STATUS_H
#define STATUS_H

#include "base/options.h"

/* board is mapped (stats_look()). To stdout, aligned in 80 columns, or as JSON. */
void status_print(const struct options *opt);
void connections_print(const struct options *opt);

#endif
