/* TfIdfVectorizer: counts of known n-grams in rows of tokens. Tokens become numbers, n-grams become
 * byte keys of those numbers, so that one hash map serves strings and integers and all lengths. */
#include "base/str.h"
#include "ops/common.h"

typedef struct tfidf {
  const mrt_attr *strings;
  const int64_t *ints; /* pool_int64s */
  int n_pool;
  int32_t *tokens; /* [n_pool] number of each pool entry's token */
  int64_t *row;    /* [n] number of each token of the input; -1 unknown */
  const int64_t *index;
  int n_index;
  int64_t min, max, skips, width;
  mrt_map words, grams; /* token -> number + 1; n-gram -> its id + 1 */
} tfidf;

static mrt_status *output_width(const mrt_node *node, int64_t *width) {
  int n;
  const int64_t *index = mrt_node_ints(node, "ngram_indexes", &n);
  *width = 0;
  for (int i = 0; i < n; ++i) {
    if (index[i] < 0 || index[i] >= INT32_MAX)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "ngram_indexes[%d] is %lld", i, (long long)index[i]);
    if (index[i] + 1 > *width) *width = index[i] + 1;
  }
  return n ? NULL : MRT_ERR(MRT_INVALID_ARGUMENT, "ngram_indexes must be non-empty");
}
static mrt_status *infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  int64_t width;
  MRT_TRY(output_width(c->node, &width));
  const mrt_expr *dims[2] = {mrt_infer_dim(c, 0, 0), mrt_expr_const(c->sym, width)};
  if (rank > 2)
    return MRT_ERR(MRT_FAIL, "Input shape must have either [C] or [B,C] dimensions with B > 0.");
  if (rank < 0) return mrt_infer_out(c, 0, MRT_FLOAT, -1, NULL);
  return mrt_infer_out(c, 0, MRT_FLOAT, rank < 2 ? 1 : 2, rank < 2 ? dims + 1 : dims);
}

/* Numbers for the tokens of the pool. */
static mrt_status *number_tokens(tfidf *t) {
  int32_t next = 1;
  for (int i = 0; i < t->n_pool; ++i) {
    const void *key = t->strings ? (const void *)t->strings->strings[i] : &t->ints[i];
    size_t len = t->strings ? t->strings->string_lens[i] : sizeof *t->ints;
    intptr_t have = (intptr_t)mrt_map_getn(&t->words, key, len);
    if (!have) {
      have = next++;
      MRT_TRY(mrt_map_setn(&t->words, key, len, (void *)have));
    }
    t->tokens[i] = (int32_t)have;
  }
  return NULL;
}
static mrt_status *load_grams(const mrt_node *node, tfidf *t) {
  int n_counts;
  const int64_t *counts = mrt_node_ints(node, "ngram_counts", &n_counts);
  intptr_t id = 1;
  for (int i = 0; i < n_counts; ++i) {
    int64_t size = i + 1, from = counts[i], to = i + 1 < n_counts ? counts[i + 1] : t->n_pool;
    if (from < 0 || to < from || to > t->n_pool || (to - from) % size)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "ngram_counts[%d] is out of the pool's bounds", i);
    for (int64_t at = from; at < to; at += size, ++id) {
      if (id > t->n_index)
        return MRT_ERR(MRT_INVALID_ARGUMENT, "more n-grams in the pool than ngram_indexes");
      if (size >= t->min && size <= t->max)
        MRT_TRY(
            mrt_map_setn(&t->grams, t->tokens + at, (size_t)size * sizeof *t->tokens, (void *)id));
    }
  }
  return NULL;
}

static void number_row(tfidf *t, const mrt_tensor *x) {
  int64_t n = mrt_tensor_count(x);
  for (int64_t i = 0; i < n; ++i) {
    if (t->strings) {
      const mrt_string *s = ((mrt_string *const *)x->data)[i];
      t->row[i] = (intptr_t)mrt_map_getn(&t->words, mrt_string_bytes(s), mrt_string_len(s));
    } else {
      int64_t v = mrt_index_at(x, i);
      t->row[i] = (intptr_t)mrt_map_getn(&t->words, &v, sizeof v);
    }
  }
}

/* Single tokens are counted once, longer n-grams for each distance between their tokens. */
static void count_row(const tfidf *t, const int64_t *row, int64_t n, int32_t *key, float *out) {
  for (int64_t step = 1; step <= t->skips + 1; ++step)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < t->max && i + k * step < n; ++k) {
        if (!row[i + k * step]) break;
        key[k] = (int32_t)row[i + k * step];
        if (k + 1 < t->min || (k == 0 && step > 1)) continue;
        intptr_t id = (intptr_t)mrt_map_getn(&t->grams, key, (size_t)(k + 1) * sizeof *key);
        if (id) out[t->index[id - 1]] += 1;
      }
}

static mrt_status *weigh(const mrt_node *node, const tfidf *t, float *out, int64_t rows) {
  int n;
  const float *w = mrt_node_floats(node, "weights", &n);
  const char *mode = mrt_node_str(node, "mode");
  bool idf = strcmp(mode, "IDF") == 0;
  if (!idf && strcmp(mode, "TFIDF") != 0)
    return strcmp(mode, "TF") == 0 ? NULL : MRT_ERR(MRT_INVALID_ARGUMENT, "mode '%s'", mode);
  if (w && n < t->width)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "weights has %d entries for %lld outputs", n,
                   (long long)t->width);
  for (int64_t i = 0; i < rows * t->width; ++i) {
    float by = w ? w[i % t->width] : 1;
    out[i] = idf ? (out[i] > 0 ? by : 0) : out[i] * by;
  }
  return NULL;
}

static mrt_status *setup(mrt_kctx *c, tfidf *t) {
  const mrt_node *node = c->node;
  t->strings = mrt_node_attr(node, "pool_strings");
  t->ints = mrt_node_ints(node, "pool_int64s", &t->n_pool);
  if (t->strings) t->n_pool = (int)t->strings->n;
  t->index = mrt_node_ints(node, "ngram_indexes", &t->n_index);
  t->min = mrt_node_int(node, "min_gram_length");
  t->max = mrt_node_int(node, "max_gram_length");
  t->skips = mrt_node_int(node, "max_skip_count");
  const mrt_tensor *x = mrt_in(c, 0);
  if ((x->dtype == MRT_STRING) != (t->strings != NULL) || (!t->strings && !t->ints))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "the pool is not of the input's type");
  if (t->min < 1 || t->max < t->min || t->max > 1024 || t->skips < 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "min_gram_length, max_gram_length or max_skip_count is out of range");
  MRT_TRY(output_width(node, &t->width));
  MRT_TRY(mrt_scratch(c, ((size_t)t->n_pool + 1) * sizeof *t->tokens, (void **)&t->tokens));
  return mrt_scratch(c, ((size_t)mrt_tensor_count(x) + 1) * sizeof *t->row, (void **)&t->row);
}

static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  tfidf t = {0};
  int32_t *key;
  if (!y) return NULL;
  MRT_TRY(setup(c, &t));
  MRT_TRY(mrt_scratch(c, (size_t)t.max * sizeof *key, (void **)&key));
  mrt_map_init(&t.words, c->alloc);
  mrt_map_init(&t.grams, c->alloc);
  mrt_status *st = number_tokens(&t);
  if (!st) st = load_grams(c->node, &t);
  if (!st) {
    int64_t rows = x->rank == 2 ? x->dims[0] : 1, n = x->rank ? x->dims[x->rank - 1] : 1;
    memset(y->data, 0, y->bytes);
    number_row(&t, x);
    for (int64_t r = 0; r < rows; ++r)
      count_row(&t, t.row + r * n, n, key, (float *)y->data + r * t.width);
    st = weigh(c->node, &t, y->data, rows);
  }
  mrt_map_deinit(&t.words);
  mrt_map_deinit(&t.grams);
  return st;
}

static const mrt_op_version versions[] = {{9}, {0}};
MRT_OP(TfIdfVectorizer) = {.domain = "",
                           .name = "TfIdfVectorizer",
                           .doc = "counts of n-grams",
                           .in = "X:T",
                           .out = "Y:float",
                           .types = "T=string,int32,int64",
                           .attrs =
                               "max_gram_length:int! max_skip_count:int! min_gram_length:int! "
                               "mode:string! ngram_counts:ints! ngram_indexes:ints! "
                               "pool_int64s:ints pool_strings:strings weights:floats",
                           .versions = versions,
                           .infer = infer,
                           .run = run};
