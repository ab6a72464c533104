/* control.h - what the words on the command line do: start a server in all its
 * circumstances, or find a running one and tell it something.
 * Does not: serve. */
#ifndef CONTROL_H
#define CONTROL_H

#include "base/options.h"

/* Do what opt->verb says. Returns only to start a server here; then it is in the
 * background if that was asked for, the pid file is locked, and sockets that systemd or a
 * previous program passed are ready for net_listen(). */
void control(struct options *opt);

/* The server listens on opt->port: make what must know the port (pid file, scoreboard),
 * print the first line of stdout, release a waiting caller, tell systemd. A stage without
 * a master becomes opt->user here, leaving a process behind that will remove what was
 * made, and catches the signals of stop.h. What the C library reads once, the time zone,
 * is read here and not for a client. tzset(3). */
void control_ready(struct options *opt, unsigned features);

/* The server has ended: remove what control_ready() made. Async-signal-safe. */
void control_end(void);

#endif
