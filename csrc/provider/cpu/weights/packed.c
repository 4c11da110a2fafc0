/* The store: a list of what is packed in this process, under one lock that is never held while
 * packing, hashing or reading files. */
#include "provider/cpu/weights/packed.h"

#include <pthread.h>
#include <string.h>

#include "base/fork.h"
#include "provider/cpu/weights/cache.h"

enum {
  SMALL = 16 << 10,   /* packed bytes below which neither sharing nor the folder pays */
  CHUNK = 1 << 20,    /* bytes hashed as one piece */
  N_BUCKETS = 1 << 10 /* a power of two */
};

struct mrt_packed {
  mrt_packed *next; /* in its bucket */
  mrt_weight_key content, place;
  bool has_place, listed, mapped;
  int refs; /* under the lock */
  uint8_t *block;
  size_t bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static mrt_fork_guard lock_guard;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static mrt_packed *buckets[N_BUCKETS]; /* by content */
static atomic_llong n_packed, n_shared, n_cached;
static void guard(void) { mrt_fork_guard_add(&lock_guard, &lock); }

mrt_packed_counts mrt_packed_count(void) {
  return (mrt_packed_counts){atomic_load(&n_packed), atomic_load(&n_shared),
                             atomic_load(&n_cached)};
}

/* ---- hashing ---- */
static inline uint64_t mix(uint64_t h, uint64_t w, uint64_t factor) {
  const __uint128_t m = (__uint128_t)(h ^ w) * factor;
  return (uint64_t)m ^ (uint64_t)(m >> 64) ^ (h << 1 | h >> 63);
}

/* Four lanes, so that multiplications overlap; each byte changes both halves in the end. */
mrt_weight_key mrt_weight_hash(const void *data, size_t n, mrt_weight_key seed) {
  static const uint64_t k[4] = {0x9E3779B97F4A7C15u, 0xD6E8FEB86659FD93u, 0xA0761D6478BD642Fu,
                                0xE7037ED1A0B428DBu};
  const uint8_t *p = data;
  uint64_t h[4] = {seed.a ^ n, seed.b ^ k[1], seed.a + k[2], seed.b - n};
  uint64_t w[4] = {0};
  for (; n >= 32; n -= 32, p += 32) {
    memcpy(w, p, 32);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) h[i] = mix(h[i], w[i], k[i]);
  }
  memset(w, 0, sizeof w);
  memcpy(w, p, n);
  for (int i = 0; i < 4; ++i) h[i] = mix(h[i], w[i], k[i]);
  for (int round = 0; round < 2; ++round)
    for (int i = 0; i < 4; ++i) h[i] = mix(h[i], h[(i + 1) % 4], k[(i + 2) % 4]);
  return (mrt_weight_key){h[0] ^ h[2], h[1] ^ h[3]};
}

typedef struct hash_job {
  const uint8_t *data;
  size_t n;
  mrt_weight_key *pieces;
} hash_job;
static void hash_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const hash_job *j = arg;
  const size_t at = (size_t)chunk * CHUNK, left = j->n - at;
  j->pieces[chunk] = mrt_weight_hash(j->data + at, left < CHUNK ? left : CHUNK,
                                     (mrt_weight_key){(uint64_t)chunk, 7});
}

static mrt_status *hash_contents(const mrt_tensor *t, mrt_weight_key seed, mrt_weight_key *out) {
  const size_t n = (t->bytes + CHUNK - 1) / CHUNK;
  const mrt_par par = {0};
  hash_job j = {t->data, t->bytes, NULL};
  MRT_TRY(mrt_mem_new(mrt_alloc_default(), (n + 1) * sizeof *j.pieces, (void **)&j.pieces));
  mrt_par_run(&par, (int64_t)n, hash_chunk, &j);
  *out = mrt_weight_hash(j.pieces, n * sizeof *j.pieces, seed);
  mrt_mem_free(mrt_alloc_default(), j.pieces);
  return NULL;
}

/* Of everything but the contents. */
static mrt_weight_key hash_form(const mrt_tensor *t, const mrt_packer *q) {
  mrt_weight_key h = mrt_weight_hash(q->format, strlen(q->format), (mrt_weight_key){t->dtype, 3});
  h = mrt_weight_hash(q->params, sizeof q->params, h);
  const uint64_t sizes[2] = {t->bytes, q->bytes};
  return mrt_weight_hash(sizes, sizeof sizes, h);
}

/* ---- the list ---- */
static bool same(mrt_weight_key x, mrt_weight_key y) { return x.a == y.a && x.b == y.b; }
static mrt_packed **bucket(mrt_weight_key content) { return &buckets[content.a % N_BUCKETS]; }

static mrt_packed *find_content(mrt_weight_key content) { /* retains */
  pthread_mutex_lock(&lock);
  mrt_packed *p = *bucket(content);
  while (p && !same(p->content, content)) p = p->next;
  if (p) ++p->refs;
  pthread_mutex_unlock(&lock);
  return p;
}
static mrt_packed *find_place(mrt_weight_key place) { /* retains; rare, so it may walk */
  mrt_packed *p = NULL;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < N_BUCKETS && !p; ++i) {
    p = buckets[i];
    while (p && !(p->has_place && same(p->place, place))) p = p->next;
  }
  if (p) ++p->refs;
  pthread_mutex_unlock(&lock);
  return p;
}

static void free_block(mrt_packed *p) {
  if (p->mapped)
    mrt_cache_close(p->block, p->bytes);
  else
    mrt_mem_free(mrt_alloc_default(), p->block);
}

/* Puts p into the list, unless somebody was faster: then p goes and theirs is used. */
static mrt_packed *enter(mrt_packed *p) {
  pthread_mutex_lock(&lock);
  mrt_packed **at = bucket(p->content), *other = *at;
  while (other && !same(other->content, p->content)) other = other->next;
  if (other) {
    ++other->refs;
  } else {
    p->next = *at;
    p->listed = true;
    *at = p;
  }
  pthread_mutex_unlock(&lock);
  if (!other) return p;
  free_block(p);
  mrt_mem_free(mrt_alloc_default(), p);
  return other;
}

void mrt_packed_release(mrt_packed *p) {
  if (!p) return;
  pthread_mutex_lock(&lock);
  const bool last = --p->refs == 0;
  if (last && p->listed) {
    mrt_packed **at = bucket(p->content);
    while (*at != p) at = &(*at)->next;
    *at = p->next;
  }
  pthread_mutex_unlock(&lock);
  if (!last) return;
  free_block(p);
  mrt_mem_free(mrt_alloc_default(), p);
}

const void *mrt_packed_data(const mrt_packed *p) { return p->block + MRT_CACHE_HEADER; }

/* ---- getting ---- */
static mrt_status *new_entry(size_t bytes, mrt_packed **out) {
  mrt_packed *p;
  MRT_TRY(mrt_mem_new_zero(mrt_alloc_default(), sizeof *p, (void **)&p));
  p->bytes = bytes;
  p->refs = 1;
  *out = p;
  return NULL;
}

static mrt_status *pack(const mrt_tensor *source, const mrt_packer *q, mrt_packed *p) {
  size_t size;
  void *block;
  if (!mrt_size_add(q->bytes, MRT_CACHE_HEADER, &size)) return mrt_status_oom();
  MRT_TRY(mrt_mem_new_aligned(mrt_alloc_default(), size, MRT_ALIGN, &block));
  mrt_status *st = q->pack(q->arg, source, (uint8_t *)block + MRT_CACHE_HEADER);
  if (st) {
    mrt_mem_free(mrt_alloc_default(), block);
    return st;
  }
  p->block = block;
  atomic_fetch_add(&n_packed, 1);
  return NULL;
}

/* From the cache folder, or packed and put there. */
static mrt_status *make(const mrt_tensor *source, const mrt_packer *q, mrt_packed *p) {
  const bool folder = mrt_cache_folder() != NULL;
  void *map;
  if (folder && mrt_cache_open(p->content, q->bytes, &map)) {
    p->block = map;
    p->mapped = true;
    atomic_fetch_add(&n_cached, 1);
    return NULL;
  }
  MRT_TRY(pack(source, q, p));
  if (!folder) return NULL;
  mrt_cache_write(p->content, p->block, q->bytes);
  if (mrt_cache_open(p->content, q->bytes, &map)) { /* pages that other processes share */
    mrt_mem_free(mrt_alloc_default(), p->block);
    p->block = map;
    p->mapped = true;
  }
  return NULL;
}

static mrt_status *get(const mrt_tensor *source, const mrt_packer *q, mrt_packed **out) {
  const mrt_weight_key form = hash_form(source, q);
  const bool folder = mrt_cache_folder() != NULL;
  mrt_file_place where;
  mrt_weight_key place = {0}, content;
  const bool has_place = mrt_tensor_file_place(source, &where);
  if (has_place) {
    place = mrt_weight_hash(&where, sizeof where, form);
    if ((*out = find_place(place))) goto shared;
  }
  const bool remembered = has_place && folder && mrt_cache_lookup(place, &content);
  if (!remembered) MRT_TRY(hash_contents(source, form, &content));
  if ((*out = find_content(content))) goto shared;
  mrt_packed *p;
  MRT_TRY(new_entry(q->bytes, &p));
  p->content = content;
  p->place = place;
  p->has_place = has_place;
  mrt_status *st = make(source, q, p);
  if (st) {
    mrt_mem_free(mrt_alloc_default(), p);
    return st;
  }
  if (has_place && p->mapped && !remembered) mrt_cache_remember(place, content);
  *out = enter(p);
  return NULL;
shared:
  atomic_fetch_add(&n_shared, 1);
  return NULL;
}

mrt_status *mrt_packed_get(const mrt_tensor *source, const mrt_packer *q, mrt_packed **out) {
  *out = NULL;
  pthread_once(&once, guard);
  if (q->bytes >= SMALL) return get(source, q, out);
  mrt_packed *p;
  MRT_TRY(new_entry(q->bytes, &p));
  mrt_status *st = pack(source, q, p);
  if (st)
    mrt_mem_free(mrt_alloc_default(), p);
  else
    *out = p;
  return st;
}
