/* NonMaxSuppression: boxes of each class by falling score, each dropped that overlaps an earlier
 * one of its class by more than the threshold. How many are left is known only afterwards. */
#include <stdlib.h>

#include "ops/common.h"

typedef struct candidate {
  float score;
  int64_t box;
} candidate;
static int by_score(const void *pa, const void *pb) { /* falling; the lower index first */
  const candidate *a = pa, *b = pb;
  if (a->score != b->score) return a->score > b->score ? -1 : 1;
  return a->box < b->box ? -1 : a->box > b->box;
}
typedef struct corners {
  float y1, x1, y2, x2;
} corners;
static corners corners_of(const float *b, bool center) {
  if (center) {
    float w = b[2] / 2, h = b[3] / 2;
    return (corners){b[1] - h, b[0] - w, b[1] + h, b[0] + w};
  }
  return (corners){fminf(b[0], b[2]), fminf(b[1], b[3]), fmaxf(b[0], b[2]), fmaxf(b[1], b[3])};
}
static bool overlaps(corners a, corners b, float threshold) {
  float h = fminf(a.y2, b.y2) - fmaxf(a.y1, b.y1), w = fminf(a.x2, b.x2) - fmaxf(a.x1, b.x1);
  if (h <= 0 || w <= 0) return false;
  float both = h * w, area_a = (a.y2 - a.y1) * (a.x2 - a.x1),
        area_b = (b.y2 - b.y1) * (b.x2 - b.x1);
  float all = area_a + area_b - both;
  return area_a > 0 && area_b > 0 && all > 0 && both / all > threshold;
}

static mrt_status *nms_infer(mrt_infer *c) {
  const mrt_expr *dims[2] = {NULL, mrt_expr_const(c->sym, 3)};
  return mrt_infer_out(c, 0, MRT_INT64, 2, dims);
}
typedef struct nms {
  const float *boxes;
  int64_t n, limit;
  float iou;
  bool center;
  candidate *list;
  corners *kept;
} nms;
/* Keeps of `count` sorted candidates; their boxes to out (at most limit), returns how many. */
static int64_t select_boxes(const nms *s, int64_t batch, int64_t count, int64_t *out) {
  int64_t kept = 0;
  for (int64_t i = 0; i < count && kept < s->limit; ++i) {
    corners b = corners_of(s->boxes + (batch * s->n + s->list[i].box) * 4, s->center);
    bool drop = false;
    for (int64_t k = 0; k < kept && !drop; ++k) drop = overlaps(b, s->kept[k], s->iou);
    if (drop) continue;
    s->kept[kept] = b;
    out[kept++] = s->list[i].box;
  }
  return kept;
}
/* Rows (batch, class, box) into a list that grows; the caller frees it, also after a failure. */
static mrt_status *collect(mrt_kctx *c, nms *s, const mrt_tensor *scores, const float *least,
                           int64_t **rows, size_t *cap, int64_t *n_rows) {
  int64_t *out;
  MRT_TRY(mrt_scratch(c, (size_t)s->n * sizeof *s->list + 1, (void **)&s->list));
  MRT_TRY(mrt_scratch(c, (size_t)s->n * sizeof *s->kept + 1, (void **)&s->kept));
  MRT_TRY(mrt_scratch(c, (size_t)s->n * sizeof *out + 1, (void **)&out));
  for (int64_t p = 0; p < scores->dims[0] * scores->dims[1]; ++p) { /* p: (batch, class) */
    const float *score = (const float *)scores->data + p * s->n;
    int64_t count = 0;
    for (int64_t i = 0; i < s->n; ++i)
      if (!isnan(score[i]) && (!least || score[i] > *least))
        s->list[count++] = (candidate){score[i], i};
    qsort(s->list, (size_t)count, sizeof *s->list, by_score);
    int64_t kept = select_boxes(s, p / scores->dims[1], count, out);
    MRT_TRY(mrt_mem_grow(c->alloc, (void **)rows, cap, (size_t)(*n_rows + kept) * 3 + 1,
                         sizeof **rows));
    for (int64_t k = 0; k < kept; ++k) {
      int64_t *row = *rows + 3 * (*n_rows)++;
      row[0] = p / scores->dims[1], row[1] = p % scores->dims[1], row[2] = out[k];
    }
  }
  return NULL;
}
static mrt_status *nms_run(mrt_kctx *c) {
  const mrt_tensor *boxes = mrt_in(c, 0), *scores = mrt_in(c, 1), *limit = mrt_in(c, 2),
                   *iou = mrt_in(c, 3), *least = mrt_in(c, 4);
  int64_t *rows = NULL, n_rows = 0;
  size_t cap = 0;
  mrt_tensor *y;
  if (!mrt_out_wanted(c, 0)) return NULL;
  if (boxes->rank != 3 || scores->rank != 3 || boxes->dims[2] != 4 ||
      boxes->dims[0] != scores->dims[0] || boxes->dims[1] != scores->dims[2])
    return MRT_ERR(MRT_INVALID_ARGUMENT, "NonMaxSuppression: boxes and scores do not fit");
  if ((limit && mrt_tensor_count(limit) < 1) || (iou && mrt_tensor_count(iou) < 1) ||
      (least && mrt_tensor_count(least) < 1))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "NonMaxSuppression: an empty threshold");
  nms s = {.boxes = boxes->data,
           .n = boxes->dims[1],
           .limit = limit ? *(const int64_t *)limit->data : 0,
           .iou = iou ? *(const float *)iou->data : 0,
           .center = mrt_node_int(c->node, "center_point_box") != 0};
  if (!(s.iou >= 0 && s.iou <= 1))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "iou_threshold must be in range [0, 1].");
  mrt_status *st = NULL;
  if (s.limit > 0 && s.n > 0)
    st = collect(c, &s, scores, least ? least->data : NULL, &rows, &cap, &n_rows);
  if (!st) st = mrt_out_alloc(c, 0, MRT_INT64, 2, (int64_t[]){n_rows, 3}, &y);
  if (!st && n_rows) memcpy(y->data, rows, (size_t)n_rows * 3 * sizeof *rows);
  mrt_mem_free(c->alloc, rows);
  return st;
}
static const mrt_op_version nms_v[] = {{10}, {11}, {0}};
MRT_OP(NonMaxSuppression) = {
    .domain = "",
    .name = "NonMaxSuppression",
    .doc = "best boxes without overlap",
    .in =
        "boxes:float, scores:float, max_output_boxes_per_class:int64?, iou_threshold:float?, "
        "score_threshold:float?",
    .out = "selected_indices:int64",
    .attrs = "center_point_box:int=0",
    .versions = nms_v,
    .flags = MRT_OP_DYNAMIC,
    .infer = nms_infer,
    .run = nms_run};
