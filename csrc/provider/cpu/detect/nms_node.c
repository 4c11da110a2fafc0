/* NonMaxSuppression: classes are shared out among threads. Candidates are one 64-bit key each,
 * score above index, in a heap: only as many are put in order as are looked at before a class is
 * full. Boxes that were kept lie in arrays by coordinate, so that a candidate is held against many
 * of them at once. Selects what ops/nms.c selects. */
#include <math.h>
#include <string.h>

#include "ops/common.h"
#include "provider/cpu/cpu.h"

enum { SIDES = 5 }; /* y1 x1 y2 x2 area */

typedef struct box {
  float y1, x1, y2, x2;
} box;

typedef struct job {
  const float *boxes, *scores;
  int64_t n, classes, planes, limit, room; /* planes: images * classes; room: kept ones at most */
  float iou, least;
  bool has_least, center;
  uint64_t *keys;  /* [workers][n] */
  float *kept;     /* [workers][SIDES][room] */
  int64_t *picked; /* [planes][room]: indices of boxes */
  int64_t *count;  /* [planes] */
  int64_t chunks;
} job;

/* Larger key: larger score, then smaller index. */
static inline uint64_t key_of(float score, int64_t index) {
  uint32_t bits;
  score += 0.0f; /* -0 is 0 */
  memcpy(&bits, &score, sizeof bits);
  bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return (uint64_t)bits << 32 | (uint32_t) ~(uint32_t)index;
}
static inline int64_t index_of(uint64_t key) { return (int64_t)(uint32_t) ~(uint32_t)key; }

static void sift_down(uint64_t *heap, int64_t n, int64_t i) {
  const uint64_t key = heap[i];
  for (int64_t child; (child = 2 * i + 1) < n; i = child) {
    if (child + 1 < n && heap[child + 1] > heap[child]) ++child;
    if (heap[child] <= key) break;
    heap[i] = heap[child];
  }
  heap[i] = key;
}

static uint64_t pop(uint64_t *heap, int64_t *n) {
  const uint64_t top = heap[0];
  heap[0] = heap[--*n];
  if (*n) sift_down(heap, *n, 0);
  return top;
}

/* Keys of the scores above the least one; NaN is below all. Most scores are not: eight are asked at
 * once. */
static int64_t candidates(const job *j, const float *score, uint64_t *keys) {
  enum { BLOCK = 8 };
  int64_t n = 0, i = 0;
  const float least = j->has_least ? j->least : -INFINITY;
  while (i < j->n) {
    const int64_t end = i + BLOCK < j->n ? i + BLOCK : j->n;
    if (end - i == BLOCK && j->has_least) {
      int any = 0;
#pragma GCC unroll 8
      for (int k = 0; k < BLOCK; ++k) any |= score[i + k] > least;
      if (!any) i = end;
    }
    for (; i < end; ++i) {
      keys[n] = key_of(score[i], i);
      n += score[i] > least || (!j->has_least && score[i] == least);
    }
  }
  return n;
}

static box read_box(const job *j, int64_t image, int64_t i) {
  const float *b = j->boxes + (image * j->n + i) * 4;
  if (j->center) {
    const float w = b[2] / 2, h = b[3] / 2;
    return (box){b[1] - h, b[0] - w, b[1] + h, b[0] + w};
  }
  return (box){fminf(b[0], b[2]), fminf(b[1], b[3]), fmaxf(b[0], b[2]), fmaxf(b[1], b[3])};
}

static inline float smaller(float a, float b) { return a < b ? a : b; }
static inline float larger(float a, float b) { return a > b ? a : b; }

/* Does b overlap one of the `n` kept boxes by more than the threshold? */
static bool overlaps(const job *j, const float *kept, int64_t n, const box *b, float area) {
  const float *y1 = kept, *x1 = y1 + j->room, *y2 = x1 + j->room, *x2 = y2 + j->room,
              *areas = x2 + j->room;
  for (int64_t begin = 0; begin < n; begin += 16) {
    const int64_t end = begin + 16 < n ? begin + 16 : n;
    int any = 0;
    for (int64_t k = begin; k < end; ++k) {
      const float h = smaller(b->y2, y2[k]) - larger(b->y1, y1[k]);
      const float w = smaller(b->x2, x2[k]) - larger(b->x1, x1[k]);
      const float both = h * w, all = area + areas[k] - both;
      any |= (h > 0) & (w > 0) & (area > 0) & (areas[k] > 0) & (all > 0) & (both / all > j->iou);
    }
    if (any) return true;
  }
  return false;
}

static void select_plane(const job *j, int64_t plane, int worker) {
  uint64_t *heap = j->keys + worker * j->n;
  float *kept = j->kept + (int64_t)worker * SIDES * j->room;
  int64_t *picked = j->picked + plane * j->room, n_kept = 0;
  int64_t n = candidates(j, j->scores + plane * j->n, heap);
  for (int64_t i = n / 2; i-- > 0;) sift_down(heap, n, i);
  while (n && n_kept < j->room) {
    const int64_t i = index_of(pop(heap, &n));
    const box b = read_box(j, plane / j->classes, i);
    const float area = (b.y2 - b.y1) * (b.x2 - b.x1);
    if (overlaps(j, kept, n_kept, &b, area)) continue;
    const float sides[SIDES] = {b.y1, b.x1, b.y2, b.x2, area};
    for (int s = 0; s < SIDES; ++s) kept[s * j->room + n_kept] = sides[s];
    picked[n_kept++] = i;
  }
  j->count[plane] = n_kept;
}

static void chunk(void *arg, int64_t index, int worker) {
  const job *j = arg;
  const int64_t end = mrt_par_begin(j->planes, j->chunks, index + 1);
  for (int64_t p = mrt_par_begin(j->planes, j->chunks, index); p < end && !mrt_par_stop(); ++p)
    select_plane(j, p, worker);
}

/* count * size bytes of scratch. */
static mrt_status *room_for(mrt_kctx *c, int64_t a, int64_t b, size_t size, void *out) {
  size_t bytes;
  if (!mrt_size_mul((size_t)a, (size_t)b, &bytes) || !mrt_size_mul(bytes, size, &bytes))
    return mrt_status_oom();
  return mrt_scratch(c, bytes + 1, out);
}

static mrt_status *write_rows(mrt_kctx *c, const job *j) {
  int64_t total = 0;
  mrt_tensor *y;
  for (int64_t p = 0; p < j->planes; ++p) total += j->count[p];
  MRT_TRY(mrt_out_alloc(c, 0, MRT_INT64, 2, (int64_t[]){total, 3}, &y));
  int64_t *row = y->data;
  for (int64_t p = 0; p < j->planes; ++p)
    for (int64_t k = 0; k < j->count[p]; ++k, row += 3) {
      row[0] = p / j->classes, row[1] = p % j->classes, row[2] = j->picked[p * j->room + k];
    }
  return NULL;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  const mrt_tensor *boxes = mrt_in(c, 0), *scores = mrt_in(c, 1), *limit = mrt_in(c, 2),
                   *iou = mrt_in(c, 3), *least = mrt_in(c, 4);
  if (!mrt_out_wanted(c, 0)) return NULL;
  const bool fits = boxes->rank == 3 && scores->rank == 3 && boxes->dims[2] == 4 &&
                    boxes->dims[0] == scores->dims[0] && boxes->dims[1] == scores->dims[2];
  const int64_t most = limit && mrt_tensor_count(limit) ? *(const int64_t *)limit->data : 0;
  /* What is wrong with them, the reference kernel says; it also serves what selects nothing. */
  if (!fits || most <= 0 || !mrt_tensor_count(scores) || boxes->dims[1] > INT32_MAX ||
      (iou && mrt_tensor_count(iou) < 1) || (least && mrt_tensor_count(least) < 1))
    return c->node->def->run(c);
  job j = {.boxes = boxes->data,
           .scores = scores->data,
           .n = boxes->dims[1],
           .classes = scores->dims[1],
           .planes = scores->dims[0] * scores->dims[1],
           .iou = iou ? *(const float *)iou->data : 0,
           .has_least = least != NULL,
           .least = least ? *(const float *)least->data : 0,
           .center = mrt_node_int(c->node, "center_point_box") != 0};
  if (!(j.iou >= 0 && j.iou <= 1)) return c->node->def->run(c);
  j.room = most < j.n ? most : j.n;
  MRT_TRY(room_for(c, mrt_par_workers(&c->par), j.n, sizeof *j.keys, &j.keys));
  MRT_TRY(room_for(c, mrt_par_workers(&c->par), j.room, SIDES * sizeof *j.kept, &j.kept));
  MRT_TRY(room_for(c, j.planes, j.room, sizeof *j.picked, &j.picked));
  MRT_TRY(room_for(c, j.planes, 1, sizeof *j.count, &j.count));
  j.chunks = mrt_par_chunks(j.planes, (double)j.planes * (double)j.n * 2.0);
  mrt_par_run(&c->par, j.chunks, chunk, &j);
  if (mrt_cancelled(&c->par)) return NULL;
  return write_rows(c, &j);
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  return mrt_node_in_dtype(node, 0) == MRT_FLOAT && mrt_node_in_dtype(node, 1) == MRT_FLOAT;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "nms_f32", run, NULL, out);
}

MRT_CPU_KERNEL(nms_f32) = {
    .domain = "", .op = "NonMaxSuppression", .match = match, .create = create};
