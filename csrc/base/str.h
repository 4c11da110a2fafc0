/* Growing string, and hash maps from strings or pointers. Failure of memory is sticky in the
 * string (checked once at the end) and a status in the maps. */
#ifndef MRT_BASE_STR_H
#define MRT_BASE_STR_H

#include "base/alloc.h"

typedef struct mrt_str {
  const mrt_alloc *alloc;
  char *data; /* always 0-terminated once non-NULL */
  size_t len, cap;
  bool failed; /* out of memory happened: contents are incomplete */
} mrt_str;
void mrt_str_init(mrt_str *s, const mrt_alloc *alloc);
void mrt_str_deinit(mrt_str *s);
void mrt_str_add(mrt_str *s, const char *text);
void mrt_str_addn(mrt_str *s, const char *bytes, size_t n);
void mrt_str_addf(mrt_str *s, const char *fmt, ...) MRT_PRINTF(2, 3);
const char *mrt_str_cstr(const mrt_str *s);                 /* "" when empty */
mrt_status *mrt_str_check(const mrt_str *s) MRT_MUST_CHECK; /* OOM if failed */

/* Does a list like "a,b" or "-a,-b" hold the name? NULL list: no. */
bool mrt_list_has(const char *list, const char *name);

uint64_t mrt_hash_bytes(const void *data, size_t n,
                        uint64_t seed); /* good 64-bit mix, not crypto */

/* Open addressing; keys are byte strings (not copied: they must outlive the map). Values are
 * pointers. Iteration order is insertion order. */
typedef struct mrt_map {
  const mrt_alloc *alloc;
  struct mrt_map_entry {
    const char *key;
    size_t key_len;
    uint64_t hash;
    void *value; /* NULL value + NULL key: removed */
  } * entries;
  size_t n_entries, cap_entries, n_live;
  uint32_t *slots;
  size_t n_slots;
} mrt_map;
void mrt_map_init(mrt_map *m, const mrt_alloc *alloc);
void mrt_map_deinit(mrt_map *m);
void *mrt_map_get(const mrt_map *m, const char *key); /* NULL if absent */
void *mrt_map_getn(const mrt_map *m, const void *key, size_t key_len);
mrt_status *mrt_map_set(mrt_map *m, const char *key, void *value) MRT_MUST_CHECK;
mrt_status *mrt_map_setn(mrt_map *m, const void *key, size_t key_len, void *value) MRT_MUST_CHECK;
void mrt_map_remove(mrt_map *m, const char *key);

#endif
