/* The store: a list of what is packed in this process, under one lock that is never held while
 * packing, hashing or reading files. */
#include "provider/cpu/weights/packed.h"

#include <pthread.h>
#include <string.h>

#include "base/fork.h"
#include "provider/cpu/weights/cache.h"
#include "provider/cpu/weights/slab.h"

enum {
  SMALL = 8 << 10,    /* packed bytes below which neither sharing nor the folder pays */
  MAPPED = 64 << 10,  /* those of a cached file below which it is read: mappings are whole pages */
  CHUNK = 1 << 20,    /* bytes hashed as one piece */
  N_BUCKETS = 1 << 10 /* a power of two */
};

struct mrt_packed {
  mrt_packed *next, *next_place; /* in its buckets */
  mrt_weight_key content, place;
  bool has_place, listed, mapped, cached;
  int refs;       /* under the lock */
  uint8_t *block; /* the packed bytes, maybe behind MRT_CACHE_HEADER bytes */
  size_t bytes, front;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static mrt_fork_guard lock_guard;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static mrt_packed *buckets[N_BUCKETS]; /* by content */
static mrt_packed *places[N_BUCKETS];  /* by place, of those that have one */
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

static mrt_status *hash_tensor(const mrt_tensor *t, mrt_weight_key seed, mrt_weight_key *out) {
  const size_t n = (t->bytes + CHUNK - 1) / CHUNK;
  const mrt_par par = {0};
  hash_job j = {t->data, t->bytes, NULL};
  MRT_TRY(mrt_mem_new(mrt_alloc_default(), (n + 1) * sizeof *j.pieces, (void **)&j.pieces));
  mrt_par_run(&par, (int64_t)n, hash_chunk, &j);
  *out = mrt_weight_hash(j.pieces, n * sizeof *j.pieces, seed);
  mrt_mem_free(mrt_alloc_default(), j.pieces);
  return NULL;
}

static mrt_status *hash_contents(const mrt_tensor *t, const mrt_packer *q, mrt_weight_key seed,
                                 mrt_weight_key *out) {
  MRT_TRY(hash_tensor(t, seed, out));
  for (int i = 0; i < MRT_PACKER_MORE; ++i) {
    const uint64_t which = (uint64_t)i;
    if (!q->more[i]) continue;
    *out = mrt_weight_hash(&which, sizeof which, *out);
    MRT_TRY(hash_tensor(q->more[i], *out, out));
  }
  return NULL;
}

/* By its place in a file, or what it is made of there. */
static bool hash_origin(const mrt_tensor *t, mrt_weight_key seed, mrt_weight_key *out) {
  mrt_file_place where;
  mrt_str text;
  if (mrt_tensor_file_place(t, &where)) {
    *out = mrt_weight_hash(&where, sizeof where, seed);
    return true;
  }
  if (!t->recipe) return false;
  mrt_str_init(&text, mrt_alloc_default());
  const bool known = mrt_tensor_origin(t, &text) && !text.failed;
  if (known) *out = mrt_weight_hash(text.data, text.len, seed);
  mrt_str_deinit(&text);
  return known;
}

/* Where the source and all of more[] lie; false: not all of them lie in a file. Small ones that
 * come from elsewhere count by their contents. */
static bool hash_place(const mrt_tensor *t, const mrt_packer *q, mrt_weight_key seed,
                       mrt_weight_key *out) {
  if (!hash_origin(t, seed, out)) return false;
  for (int i = 0; i < MRT_PACKER_MORE; ++i) {
    const uint64_t which = (uint64_t)i;
    const mrt_tensor *more = q->more[i];
    if (!more) continue;
    *out = mrt_weight_hash(&which, sizeof which, *out);
    if (hash_origin(more, *out, out)) continue;
    if (more->bytes > CHUNK || mrt_tensor_is_forgotten(more)) return false;
    *out = mrt_weight_hash(more->data, more->bytes, *out);
  }
  return true;
}

/* Of everything but the contents. */
static mrt_weight_key hash_form(const mrt_tensor *t, const mrt_packer *q) {
  mrt_weight_key h = mrt_weight_hash(q->format, strlen(q->format), (mrt_weight_key){t->dtype, 3});
  h = mrt_weight_hash(q->params, sizeof q->params, h);
  const uint64_t sizes[2] = {t->bytes, q->bytes};
  h = mrt_weight_hash(sizes, sizeof sizes, h);
  for (int i = 0; i < MRT_PACKER_MORE; ++i) {
    const uint64_t more[2] = {q->more[i] ? q->more[i]->dtype : 0,
                              q->more[i] ? q->more[i]->bytes : 0};
    if (q->more[i]) h = mrt_weight_hash(more, sizeof more, h);
  }
  return h;
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
static mrt_packed *find_place(mrt_weight_key place) { /* retains */
  pthread_mutex_lock(&lock);
  mrt_packed *p = places[place.a % N_BUCKETS];
  while (p && !same(p->place, place)) p = p->next_place;
  if (p) ++p->refs;
  pthread_mutex_unlock(&lock);
  return p;
}

static void free_block(mrt_packed *p) {
  if (p->mapped)
    mrt_cache_close(p->block, p->bytes);
  else
    mrt_slab_free(p->block);
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
    if (p->has_place) {
      p->next_place = places[p->place.a % N_BUCKETS];
      places[p->place.a % N_BUCKETS] = p;
    }
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
    at = &places[p->place.a % N_BUCKETS];
    while (p->has_place && *at != p) at = &(*at)->next_place;
    if (p->has_place) *at = p->next_place;
  }
  pthread_mutex_unlock(&lock);
  if (!last) return;
  free_block(p);
  mrt_mem_free(mrt_alloc_default(), p);
}

const void *mrt_packed_data(const mrt_packed *p) { return p->block + p->front; }

/* ---- getting ---- */
static mrt_status *new_entry(size_t bytes, mrt_packed **out) {
  mrt_packed *p;
  MRT_TRY(mrt_mem_new_zero(mrt_alloc_default(), sizeof *p, (void **)&p));
  p->bytes = bytes;
  p->refs = 1;
  *out = p;
  return NULL;
}

/* Before the source is read: pages that were given back come from the file again, and a file that
 * became shorter has none. */
static mrt_status *check_intact(const mrt_tensor *source) {
  if (mrt_tensor_is_intact(source)) return NULL;
  return MRT_ERR(MRT_FAIL, "the model file has changed: weights cannot be packed again");
}

/* front: bytes in front of the packed ones. */
static mrt_status *pack(const mrt_tensor *source, const mrt_packer *q, size_t front,
                        mrt_packed *p) {
  size_t size;
  void *block = NULL;
  if (!mrt_size_add(q->bytes, front, &size)) return mrt_status_oom();
  MRT_TRY(check_intact(source));
  mrt_tensor *copy = NULL;
  if (q->align_source && !mrt_tensor_is_aligned(source))
    MRT_TRY(mrt_tensor_copy(mrt_alloc_default(), source, &copy));
  mrt_status *st = mrt_slab_new(size, &block);
  if (!st) st = q->pack(q->arg, copy ? copy : source, (uint8_t *)block + front);
  mrt_tensor_release(copy);
  if (st) {
    mrt_slab_free(block);
    return st;
  }
  p->block = block;
  p->front = front;
  atomic_fetch_add(&n_packed, 1);
  return NULL;
}

/* What is known of a source and a form before its contents are read. */
typedef struct known {
  mrt_weight_key form, place, content;
  bool has_place, remembered; /* remembered: the folder says what lies at the place */
} known;

static mrt_status *enter_new(const known *k, const mrt_packer *q, mrt_packed **out) {
  MRT_TRY(new_entry(q->bytes, out));
  (*out)->content = k->content;
  (*out)->place = k->place;
  (*out)->has_place = k->has_place;
  return NULL;
}

static mrt_packed *found(mrt_packed *p) {
  if (p) atomic_fetch_add(&n_shared, 1);
  return p;
}

/* What the folder has. Pages that other processes share, but of small files, whose last pages add
 * up, a copy, unless perhaps no run reads it. */
static bool from_folder(const mrt_tensor *source, mrt_packed *p) {
  void *block;
  const bool nested = source->base.flags & MRT_VALUE_NESTED;
  if (p->bytes >= MAPPED || nested) {
    if (!mrt_cache_open(p->content, p->bytes, !nested, &block)) return false;
    p->mapped = true;
    p->front = MRT_CACHE_HEADER;
  } else {
    mrt_status *st = mrt_slab_new(p->bytes, &block);
    const bool have = !st && mrt_cache_read(p->content, p->bytes, block);
    mrt_status_free(st);
    if (!have) {
      mrt_slab_free(block);
      return false;
    }
    p->front = 0;
  }
  p->block = block;
  return true;
}

static bool take_cached(const mrt_tensor *source, mrt_packed *p) {
  p->cached = from_folder(source, p);
  if (p->cached) atomic_fetch_add(&n_cached, 1);
  return p->cached;
}

static mrt_status *find(const mrt_tensor *source, const mrt_packer *q, known *k, mrt_packed **out) {
  *k = (known){.form = hash_form(source, q)};
  *out = NULL;
  k->has_place = hash_place(source, q, k->form, &k->place);
  if (!k->has_place) return NULL;
  if ((*out = found(find_place(k->place)))) return NULL;
  k->remembered = mrt_cache_folder() && mrt_cache_lookup(k->place, &k->content);
  if (!k->remembered || (*out = found(find_content(k->content)))) return NULL;
  mrt_packed *p;
  MRT_TRY(enter_new(k, q, &p));
  if (take_cached(source, p))
    *out = enter(p);
  else
    mrt_mem_free(mrt_alloc_default(), p);
  return NULL;
}

/* From the cache folder, or packed and put there. */
static mrt_status *make(const mrt_tensor *source, const mrt_packer *q, mrt_packed *p) {
  if (!mrt_cache_folder()) return pack(source, q, 0, p);
  if (take_cached(source, p)) return NULL;
  MRT_TRY(pack(source, q, MRT_CACHE_HEADER, p));
  uint8_t *block = p->block;
  mrt_cache_write(p->content, block, q->bytes);
  p->cached = from_folder(source, p);
  if (p->cached) mrt_slab_free(block);
  return NULL;
}

static mrt_status *get(const mrt_tensor *source, const mrt_packer *q, mrt_packed **out) {
  known k;
  MRT_TRY(find(source, q, &k, out));
  if (*out) return NULL;
  if (!k.remembered) {
    MRT_TRY(check_intact(source));
    MRT_TRY(hash_contents(source, q, k.form, &k.content));
    if ((*out = found(find_content(k.content)))) return NULL;
  }
  mrt_packed *p;
  MRT_TRY(enter_new(&k, q, &p));
  mrt_status *st = make(source, q, p);
  if (st) {
    mrt_mem_free(mrt_alloc_default(), p);
    return st;
  }
  if (k.has_place && p->cached && !k.remembered) mrt_cache_remember(k.place, k.content);
  *out = enter(p);
  return NULL;
}

mrt_status *mrt_packed_find(const mrt_tensor *source, const mrt_packer *q, mrt_packed **out) {
  known k;
  *out = NULL;
  pthread_once(&once, guard);
  return q->bytes < SMALL ? NULL : find(source, q, &k, out);
}

mrt_status *mrt_packed_get(const mrt_tensor *source, const mrt_packer *q, mrt_packed **out) {
  *out = NULL;
  if (mrt_tensor_is_forgotten(source)) {
    mrt_tensor *again;
    MRT_TRY(mrt_packed_find(source, q, out));
    if (*out) return NULL;
    MRT_TRY(mrt_tensor_again(mrt_alloc_default(), source, &again));
    mrt_status *st = mrt_packed_get(again, q, out);
    mrt_tensor_release(again);
    return st;
  }
  pthread_once(&once, guard);
  if (q->bytes >= SMALL) return get(source, q, out);
  mrt_packed *p;
  MRT_TRY(new_entry(q->bytes, &p));
  mrt_status *st = pack(source, q, 0, p);
  if (st)
    mrt_mem_free(mrt_alloc_default(), p);
  else
    *out = p;
  return st;
}
