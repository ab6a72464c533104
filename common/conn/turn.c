/* turn.c - see turn.h.
 * Does not: know what the bytes mean. */
#include "conn/turn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Thread_local struct turn turn;
struct serving serving;

struct turn_kept {
    struct conn *replying, *conn;
    char *message;
    size_t *left;
    size_t input_len, output_len;
    char bytes[]; /* of input, then of output */
};

struct turn_kept *turn_put_aside(void)
{
    struct turn_kept *kept;

    errno = 0;
    if (turn.conn == NULL && turn.input_len + turn.output_len == 0)
        return NULL;
    kept = malloc(sizeof(*kept) + turn.input_len + turn.output_len);
    if (kept == NULL)
        return NULL;
    *kept = (struct turn_kept){ turn.replying, turn.conn,      turn.message,
                                turn.left,     turn.input_len, turn.output_len };
    memcpy(kept->bytes, turn.input, turn.input_len);
    memcpy(kept->bytes + turn.input_len, turn.output, turn.output_len);
    turn.conn = NULL;
    turn.input_len = turn.output_len = 0;
    return kept;
}

void turn_take_up(struct turn_kept *kept)
{
    if (kept == NULL)
        return;
    turn.replying = kept->replying;
    turn.conn = kept->conn;
    turn.message = kept->message;
    turn.left = kept->left;
    turn.input_len = kept->input_len;
    turn.output_len = kept->output_len;
    memcpy(turn.input, kept->bytes, kept->input_len);
    memcpy(turn.output, kept->bytes + kept->input_len, kept->output_len);
    free(kept);
}
