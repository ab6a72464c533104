/* modes.c - the ways to run the stages, as stageN_name/facts tells; see harness.h.
 * Does not: start any. */
#include <glob.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/harness.h"

enum { LINE = 256 };

static struct mode modes[MODES_MAX];
static int n_modes;

static _Noreturn void wrong(const char *file, const char *what)
{
    fprintf(stderr, "%s: %s\n", file, what);
    exit(EXIT_FAILURE);
}

__attribute__((format(printf, 1, 2))) static char *text_of(const char *format, ...)
{
    char *text;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) == -1)
        wrong("modes.c", "no memory");
    va_end(args);
    return text;
}

/* One more way to run the stage. words: "" or "NAME [OPTION]...". */
static void add_mode(const struct mode *stage, const char *words)
{
    int number = (int)strcspn(stage->stage, "_"), name = (int)strcspn(words, " ");
    const char *options = words + name + strspn(words + name, " ");
    struct mode *m = &modes[n_modes];

    if (n_modes++ == MODES_MAX)
        wrong("modes.c", "too many modes");
    *m = *stage;
    m->name = text_of("%.*s%s%.*s", number, stage->stage, name ? "-" : "", name, words);
    if (stage->workers)
        m->args = text_of("-w %d%s%s", stage->workers, *options ? " " : "", options);
    else
        m->args = text_of("%s", options);
}

/* What stands behind "KEY: " in the line, or NULL. */
static const char *value_of(const char *line, const char *key)
{
    size_t n = strlen(key);

    return strncmp(line, key, n) == 0 && strncmp(line + n, ": ", 2) == 0 ? line + n + 2
                                                                         : NULL;
}

static void read_fact(struct mode *stage, const char *line)
{
    const char *value;

    if ((value = value_of(line, "workers"))) {
        stage->workers = atoi(value);
        if (stage->at_once == 1)
            stage->at_once = stage->workers;
    } else if ((value = value_of(line, "model"))) {
        stage->model = text_of("%s", value);
        if (strcmp(value, "blocking") == 0)
            stage->at_once = stage->workers ? stage->workers : 1;
        else if (strcmp(value, "loop") == 0 || strcmp(value, "threads") == 0 ||
                 strcmp(value, "callbacks") == 0 || strcmp(value, "coroutines") == 0)
            stage->at_once = INT_MAX;
    }
}

/* The modes come last in the file: what stands above them holds for each. */
static void read_facts(const char *file)
{
    struct mode common = { 0 };
    char path[PATH_MAX];
    char line[LINE];
    const char *value;
    int before = n_modes;
    FILE *facts = fopen(file, "re");

    if (facts == NULL)
        wrong(file, "cannot be read");
    snprintf(path, sizeof path, "%s", file);
    common.stage = text_of("%s", basename(dirname(path)));
    while (fgets(line, sizeof line, facts)) {
        line[strcspn(line, "\n")] = '\0';
        read_fact(&common, line);
        if ((value = value_of(line, "mode")))
            add_mode(&common, value);
    }
    fclose(facts);
    if (common.at_once == 0)
        wrong(file, "no line 'model:' that is known above the modes");
    if (n_modes == before)
        add_mode(&common, "");
}

static void read_all(void)
{
    const char *source = getenv("SOURCE_DIR");
    char pattern[PATH_MAX];
    glob_t found;

    snprintf(pattern, sizeof pattern, "%s/stage*/facts", source ? source : ".");
    if (glob(pattern, 0, NULL, &found) != 0)
        wrong(pattern, "no stages; run this in the source folder, or set SOURCE_DIR");
    for (size_t i = 0; i < found.gl_pathc; i++)
        read_facts(found.gl_pathv[i]);
    globfree(&found);
}

const struct mode *harness_modes(int *n)
{
    if (n_modes == 0)
        read_all();
    *n = n_modes;
    return modes;
}

bool mode_waits_aside(const struct mode *m)
{
    return strcmp(m->model, "threads") == 0 || strcmp(m->model, "callbacks") == 0 ||
           strcmp(m->model, "coroutines") == 0;
}

const struct mode *harness_mode(const char *name)
{
    size_t len = strlen(name);
    int n;
    const struct mode *all = harness_modes(&n);

    for (int i = 0; i < n; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    for (int i = 0; i < n; i++)
        if (strncmp(all[i].name, name, len) == 0 && all[i].name[len] == '-')
            return &all[i];
    wrong(name, "no stage has this mode");
}
