/* Where the tree may write, on real paths: the same decisions as _boundary.py. */
#include "fast.h"

#include <ctype.h>
#include <stdlib.h>

struct prefix {
    char *path; /* ends with a slash */
    size_t length;
    bool guarded;
    int pin;
};
struct prefixes {
    struct prefix *items;
    size_t count;
};

static struct prefixes roots, protected_paths, folded;

static bool add(struct prefixes *list, const char *path, size_t length, bool guarded, int pin)
{
    struct prefix *items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return false;
    list->items = items;
    char *copy = malloc(length + 2);
    if (!copy)
        return false;
    memcpy(copy, path, length);
    while (length && copy[length - 1] == '/')
        length--;
    copy[length++] = '/';
    copy[length] = 0;
    items[list->count++] = (struct prefix){copy, length, guarded, pin};
    return true;
}

bool bounds_add_root(const char *path, size_t length, bool guarded, int pin)
{
    return add(&roots, path, length, guarded, pin);
}

bool bounds_add_protected(const char *path, size_t length)
{
    return add(&protected_paths, path, length, false, -1);
}

bool bounds_add_folded(const char *path, size_t length)
{
    return add(&folded, path, length, false, -1);
}

static void clear(struct prefixes *list)
{
    for (size_t index = 0; index < list->count; index++)
        free(list->items[index].path);
    free(list->items);
    *list = (struct prefixes){0};
}

void bounds_clear(void)
{
    clear(&roots);
    clear(&protected_paths);
    clear(&folded);
}

/* Whether the path is the folder of this prefix or lies in it. */
static bool beneath(const char *real, size_t length, const struct prefix *prefix)
{
    size_t bare = prefix->length - 1;
    return length >= bare && !memcmp(real, prefix->path, bare) &&
           (length == bare || real[bare] == '/');
}

static bool in_any(const char *real, size_t length, const struct prefixes *list)
{
    for (size_t index = 0; index < list->count; index++)
        if (beneath(real, length, &list->items[index]))
            return true;
    return false;
}

/* Whether a component is `.git`, in any case, from this slash on. */
static bool has_git(const char *at)
{
    for (; *at; at++)
        if (at[0] == '/' && at[1] == '.' && tolower((unsigned char)at[2]) == 'g' &&
            tolower((unsigned char)at[3]) == 'i' && tolower((unsigned char)at[4]) == 't' &&
            (at[5] == '/' || !at[5]))
            return true;
    return false;
}

int root_of(const char *real)
{
    size_t length = strlen(real);
    if (in_any(real, length, &protected_paths))
        return -1;
    for (size_t index = 0; index < roots.count; index++) {
        const struct prefix *root = &roots.items[index];
        if (beneath(real, length, root))
            return root->guarded && has_git(real + root->length - 1) ? -1 : (int)index;
    }
    return -1;
}

/* Whether a root is still where it was; Landlock does not know of every change. */
bool stands(int index)
{
    char real[PATH_BYTES];
    if (index < 0 || !real_path(roots.items[index].pin, real))
        return false;
    size_t bare = roots.items[index].length - 1;
    return strlen(real) == bare && !memcmp(real, roots.items[index].path, bare);
}

bool inside_root(const char *real)
{
    return in_any(real, strlen(real), &roots);
}

bool is_folded(const char *real)
{
    return in_any(real, strlen(real), &folded);
}

bool holds_protected(const char *real)
{
    size_t length = strlen(real);
    for (size_t index = 0; index < protected_paths.count; index++) {
        const struct prefix *prefix = &protected_paths.items[index];
        if (prefix->length > length && !memcmp(prefix->path, real, length) &&
            prefix->path[length] == '/')
            return true;
    }
    return false;
}
