/* Strided copies. Dims are merged where both sides allow it and an innermost run that is contiguous
 * on both sides becomes the unit that is moved. Where the source runs along another dim than the
 * destination, tiles of both are copied, so that each cache line is fetched once. Work is cut into
 * units of some kilobytes for threads. */
#include <string.h>

#include "tensor/strided.h"
#include "tensor/tile4.h"

#define TILE      32
#define UNIT      (32 << 10) /* bytes of a row that one unit copies at most */
#define BIG_BLOCK (256 << 10)

#define MRT_TEMPLATE "tensor/strided.inl"
#include "tensor/each_size.h"

typedef void (*row_fn)(char *dst, int64_t ds, const char *src, int64_t ss, int64_t n);
typedef void (*tile_fn)(char *dst, int64_t dr, const char *src, int64_t sc, int64_t h, int64_t w);
static void tile_4(char *, int64_t, const char *, int64_t, int64_t, int64_t)
    __attribute__((unused));
static const row_fn row_by_size[17] = {
    [1] = row_1, [2] = row_2, [4] = row_4, [8] = row_8, [16] = row_16};
static const tile_fn tile_by_size[17] = {
    [1] = tile_1, [2] = tile_2, [4] = tile_4, [8] = tile_8, [16] = tile_16};

typedef struct copy {
  char *dst;
  const char *src;
  size_t size;
  int rank; /* of the outer dims once a plan is made */
  int64_t dims[MRT_MAX_RANK + 1], ds[MRT_MAX_RANK + 1], ss[MRT_MAX_RANK + 1]; /* bytes */
  /* inner part: a row of n, or a tile of h (along src's run) x n */
  int64_t n, row_ds, row_ss, h, tile_ds, step; /* step: elements of n (or h) per unit */
  row_fn row;
  tile_fn tile;
  int64_t units, per_row, parts;
} copy;

/* Merged, without dims of 1; false: nothing to copy. */
static bool normalize(copy *c, int rank, const int64_t *dims, const int64_t *ds,
                      const int64_t *ss) {
  int64_t size = (int64_t)c->size;
  for (int i = 0; i < rank; ++i) {
    int64_t d = ds[i] * size, s = ss[i] * size;
    int last = c->rank - 1;
    if (dims[i] == 0) return false;
    if (dims[i] == 1) continue;
    if (last >= 0 && c->ds[last] == d * dims[i] && c->ss[last] == s * dims[i]) {
      c->dims[last] *= dims[i];
    } else {
      c->dims[++last] = dims[i];
      c->rank = last + 1;
    }
    c->ds[last] = d;
    c->ss[last] = s;
  }
  int last = c->rank - 1;
  if (last >= 0 && c->ds[last] == size && c->ss[last] == size) {
    c->size *= (size_t)c->dims[last];
    --c->rank;
  }
  return true;
}

static void take_dim(copy *c, int k) {
  for (int i = k; i + 1 < c->rank; ++i) {
    c->dims[i] = c->dims[i + 1];
    c->ds[i] = c->ds[i + 1];
    c->ss[i] = c->ss[i + 1];
  }
  --c->rank;
}

/* Chooses the inner part and counts units. */
static void plan(copy *c) {
  bool typed = c->size <= 16 && row_by_size[c->size];
  int last = c->rank - 1, along = -1;
  if (last < 0) { /* one block: cut it into pieces */
    c->rank = -1;
    c->units = c->size > BIG_BLOCK ? (int64_t)(c->size / UNIT) : 1;
    return;
  }
  c->n = c->dims[last];
  c->row_ds = c->ds[last];
  c->row_ss = c->ss[last];
  for (int i = 0; i < last && typed && along < 0; ++i)
    if (c->ss[i] == (int64_t)c->size && c->row_ds == (int64_t)c->size && c->row_ss != 0 &&
        c->dims[i] >= 4)
      along = i;
  --c->rank;
  c->row = typed ? row_by_size[c->size] : NULL;
  if (along >= 0) {
    c->tile = tile_by_size[c->size];
    c->h = c->dims[along];
    c->tile_ds = c->ds[along];
    take_dim(c, along);
    c->step = TILE;
    c->per_row = (c->h + TILE - 1) / TILE;
  } else {
    int64_t most = UNIT / (int64_t)(c->size < UNIT ? c->size : UNIT);
    c->step = c->n <= most ? c->n : most > 0 ? most : 1;
    c->per_row = (c->n + c->step - 1) / c->step;
  }
  c->units = c->per_row;
  for (int i = 0; i < c->rank; ++i) c->units *= c->dims[i];
}

static void copy_unit(const copy *c, char *dst, const char *src, int64_t piece) {
  int64_t from = piece * c->step, size = (int64_t)c->size;
  if (c->tile) {
    int64_t h = c->h - from < TILE ? c->h - from : TILE;
    dst += from * c->tile_ds;
    src += from * size;
    for (int64_t l = 0; l < c->n; l += TILE)
      c->tile(dst + l * size, c->tile_ds, src + l * c->row_ss, c->row_ss, h,
              c->n - l < TILE ? c->n - l : TILE);
    return;
  }
  int64_t n = c->n - from < c->step ? c->n - from : c->step;
  dst += from * c->row_ds;
  src += from * c->row_ss;
  if (c->row) {
    c->row(dst, c->row_ds, src, c->row_ss, n);
    return;
  }
  for (int64_t i = 0; i < n; ++i) memcpy(dst + i * c->row_ds, src + i * c->row_ss, c->size);
}

static void run_part(void *arg, int64_t part, int worker) {
  const copy *c = arg;
  int64_t begin = mrt_par_begin(c->units, c->parts, part),
          end = mrt_par_begin(c->units, c->parts, part + 1), index[MRT_MAX_RANK + 1];
  (void)worker;
  int64_t row = begin / c->per_row, piece = begin % c->per_row, r = row;
  char *dst = c->dst;
  const char *src = c->src;
  for (int d = c->rank - 1; d >= 0; --d) {
    index[d] = r % c->dims[d];
    r /= c->dims[d];
    dst += index[d] * c->ds[d];
    src += index[d] * c->ss[d];
  }
  for (int64_t u = begin; u < end; ++u) {
    copy_unit(c, dst, src, piece);
    if (++piece < c->per_row) continue;
    piece = 0;
    for (int d = c->rank - 1; d >= 0; --d) {
      dst += c->ds[d];
      src += c->ss[d];
      if (++index[d] < c->dims[d]) break;
      dst -= c->ds[d] * c->dims[d];
      src -= c->ss[d] * c->dims[d];
      index[d] = 0;
    }
  }
}

static void run_block(void *arg, int64_t part, int worker) { /* one contiguous block */
  const copy *c = arg;
  int64_t begin = mrt_par_begin((int64_t)c->size, c->parts, part),
          end = mrt_par_begin((int64_t)c->size, c->parts, part + 1);
  (void)worker;
  memcpy(c->dst + begin, c->src + begin, (size_t)(end - begin));
}

void mrt_strided_copy(const mrt_par *par, size_t size, int rank, const int64_t *dims, void *dst,
                      const int64_t *dst_strides, const void *src, const int64_t *src_strides) {
  copy c = {.dst = dst, .src = src, .size = size};
  const mrt_par alone = {.threads = 1};
  if (!normalize(&c, rank, dims, dst_strides, src_strides)) return;
  plan(&c);
  double rows = (double)c.units, bytes = (double)c.size * (c.rank < 0 ? 1 : (double)c.n);
  for (int i = 0; i < c.rank; ++i) bytes *= (double)c.dims[i];
  if (c.tile) bytes *= (double)c.h;
  double moves = c.row || c.tile ? bytes / (double)c.size : rows;
  c.parts = mrt_par_chunks(c.units, bytes * 0.06 + moves * 0.5 + rows * 5);
  if (c.parts < 1) c.parts = 1;
  mrt_par_run(par ? par : &alone, c.parts, c.rank < 0 ? run_block : run_part, &c);
}
