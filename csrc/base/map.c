/* Hash map: entries in insertion order, an open-addressed table of their indices beside them. */
#include <string.h>

#include "base/str.h"

#define EMPTY UINT32_MAX

uint64_t mrt_hash_bytes(const void *data, size_t n, uint64_t seed) {
  const unsigned char *p = data;
  uint64_t h = seed ^ (n * 0x9E3779B97F4A7C15u);
  while (n >= 8) {
    uint64_t w;
    memcpy(&w, p, 8);
    __uint128_t m = (__uint128_t)(h ^ w) * 0xD6E8FEB86659FD93u;
    h = (uint64_t)m ^ (uint64_t)(m >> 64);
    p += 8;
    n -= 8;
  }
  uint64_t w = 0;
  if (n) memcpy(&w, p, n);
  __uint128_t m = (__uint128_t)(h ^ w ^ 0xA0761D6478BD642Fu) * 0xE7037ED1A0B428DBu;
  return (uint64_t)m ^ (uint64_t)(m >> 64);
}

void mrt_map_init(mrt_map *m, const mrt_alloc *alloc) { *m = (mrt_map){.alloc = alloc}; }
void mrt_map_deinit(mrt_map *m) {
  mrt_mem_free(m->alloc, m->entries);
  mrt_mem_free(m->alloc, m->slots);
  *m = (mrt_map){.alloc = m->alloc};
}

static struct mrt_map_entry *find(const mrt_map *m, const void *key, size_t len, uint64_t hash) {
  if (!m->n_slots) return NULL;
  for (size_t i = hash & (m->n_slots - 1);; i = (i + 1) & (m->n_slots - 1)) {
    if (m->slots[i] == EMPTY) return NULL;
    struct mrt_map_entry *e = &m->entries[m->slots[i]];
    if (e->key && e->hash == hash && e->key_len == len && (!len || !memcmp(e->key, key, len)))
      return e;
  }
}

static void insert_slot(mrt_map *m, uint32_t index) {
  size_t i = m->entries[index].hash & (m->n_slots - 1);
  while (m->slots[i] != EMPTY) i = (i + 1) & (m->n_slots - 1);
  m->slots[i] = index;
}

static mrt_status *rehash(mrt_map *m) {
  size_t n = m->n_slots ? m->n_slots * 2 : 16;
  uint32_t *slots;
  MRT_TRY(mrt_mem_new(m->alloc, n * sizeof *slots, (void **)&slots));
  memset(slots, 0xff, n * sizeof *slots);
  mrt_mem_free(m->alloc, m->slots);
  m->slots = slots;
  m->n_slots = n;
  for (size_t i = 0; i < m->n_entries; ++i)
    if (m->entries[i].key) insert_slot(m, (uint32_t)i);
  return NULL;
}

void *mrt_map_getn(const mrt_map *m, const void *key, size_t key_len) {
  const struct mrt_map_entry *e = find(m, key, key_len, mrt_hash_bytes(key, key_len, 0));
  return e ? e->value : NULL;
}
void *mrt_map_get(const mrt_map *m, const char *key) { return mrt_map_getn(m, key, strlen(key)); }

mrt_status *mrt_map_setn(mrt_map *m, const void *key, size_t key_len, void *value) {
  uint64_t hash = mrt_hash_bytes(key, key_len, 0);
  struct mrt_map_entry *e = find(m, key, key_len, hash);
  if (e) {
    e->value = value;
    return NULL;
  }
  if (m->n_entries >= EMPTY - 1) return mrt_status_oom();
  MRT_TRY(mrt_mem_grow(m->alloc, (void **)&m->entries, &m->cap_entries, m->n_entries + 1,
                       sizeof *m->entries));
  if ((m->n_entries + 1) * 2 > m->n_slots) MRT_TRY(rehash(m));
  m->entries[m->n_entries] = (struct mrt_map_entry){key, key_len, hash, value};
  insert_slot(m, (uint32_t)m->n_entries++);
  ++m->n_live;
  return NULL;
}
mrt_status *mrt_map_set(mrt_map *m, const char *key, void *value) {
  return mrt_map_setn(m, key, strlen(key), value);
}

void mrt_map_remove(mrt_map *m, const char *key) {
  size_t len = strlen(key);
  struct mrt_map_entry *e = find(m, key, len, mrt_hash_bytes(key, len, 0));
  if (!e) return;
  e->key = NULL; /* the slot stays as a tombstone until the next rehash */
  e->value = NULL;
  --m->n_live;
}
