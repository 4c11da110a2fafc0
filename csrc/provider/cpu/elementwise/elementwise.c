/* The program interpreter. The index space is merged to as few dimensions as the strides allow; its
 * innermost one is a row. Long rows are cut into tiles; several short rows share one tile. A
 * register is a pointer: into the array itself where that is contiguous over the tile, else into
 * scratch, where the tile is gathered before and scattered after the instructions ran. */
#include "provider/cpu/elementwise/elementwise.h"

#include <string.h>

#include "base/cpu.h"
#include "provider/cpu/elementwise/elementwise_kernel.h"

enum { SHORT_ROW = 64 };

const mrt_ew_kernels *mrt_ew_kernels_get(void) {
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/elementwise/elementwise.def"
#undef MRT_KERNEL
}

mrt_ew_fn mrt_ew_find(mrt_ew_op op) { return mrt_ew_kernels_get()->fn[op]; }

typedef struct op_info {
  const char *name;
  int arity, params;
} op_info;
static const op_info ops[] = {
#define MRT_EW_OP(id, arity, params, doc) {#id, arity, params},
#include "provider/cpu/elementwise/elementwise_ops.def"
#undef MRT_EW_OP
};
const char *mrt_ew_op_name(mrt_ew_op op) { return ops[op].name; }
int mrt_ew_op_arity(mrt_ew_op op) { return ops[op].arity; }
int mrt_ew_op_params(mrt_ew_op op) { return ops[op].params; }

/* ---- checks ---- */
mrt_status *mrt_ew_program_check(const mrt_ew_program *prog) {
  uint64_t written = 0;
  const int io = prog->n_inputs + prog->n_outputs;
  if (prog->n_inputs < 0 || prog->n_outputs < 1 || io > MRT_EW_MAX_IO)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "point-wise program: %d inputs and %d outputs, at most %d",
                   prog->n_inputs, prog->n_outputs, MRT_EW_MAX_IO);
  for (int i = 0; i < prog->n_inputs; ++i) written |= 1ull << i;
  for (int i = 0; i < prog->n_instrs; ++i) {
    const mrt_ew_instr *in = &prog->instrs[i];
    if (in->op >= MRT_EW_OP_COUNT)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "point-wise instruction %d: unknown operation %d", i,
                     in->op);
    const uint8_t reg[3] = {in->a, in->b, in->c};
    for (int k = 0; k < ops[in->op].arity; ++k)
      if (reg[k] >= MRT_EW_MAX_REGS || !(written >> reg[k] & 1))
        return MRT_ERR(MRT_INVALID_ARGUMENT,
                       "point-wise instruction %d (%s) reads unset register %d", i,
                       ops[in->op].name, reg[k]);
    if (in->dst < prog->n_inputs || in->dst >= MRT_EW_MAX_REGS)
      return MRT_ERR(MRT_INVALID_ARGUMENT,
                     "point-wise instruction %d (%s) may not write register %d", i,
                     ops[in->op].name, in->dst);
    written |= 1ull << in->dst;
  }
  for (int i = 0; i < prog->n_outputs; ++i)
    if (prog->out[i] >= MRT_EW_MAX_REGS || !(written >> prog->out[i] & 1))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "point-wise output %d is the unset register %d", i,
                     prog->out[i]);
  return NULL;
}

static int register_count(const mrt_ew_program *prog) {
  int n = prog->n_inputs;
  for (int i = 0; i < prog->n_instrs; ++i)
    if (prog->instrs[i].dst >= n) n = prog->instrs[i].dst + 1;
  return n;
}

size_t mrt_ew_scratch_size(const mrt_par *par, const mrt_ew_program *prog) {
  return (size_t)mrt_par_workers(par) * (size_t)register_count(prog) * MRT_EW_TILE * sizeof(float);
}

/* ---- one run ---- */
typedef struct ew_job {
  const mrt_ew_program *prog;
  const mrt_ew_kernels *kern;
  int rank, n_regs, n_io;
  int64_t dims[MRT_EW_MAX_RANK];
  mrt_ew_array io[MRT_EW_MAX_IO];
  bool in_place[MRT_EW_MAX_IO]; /* the register of this array may point into the array */
  bool dense[MRT_EW_MAX_IO];    /* contiguous over the whole index space */
  int64_t row, rows;            /* length and number of rows */
  int64_t tiles, tiles_per_row, rows_per_tile;
  int64_t chunks;
  float *scratch;
} ew_job;

/* Copies dims and strides, dropping dimensions of 1 and merging neighbours that step alike. */
static void merge_dims(ew_job *j, int rank, const int64_t *dims, const mrt_ew_array *io) {
  for (int i = 0; i < j->n_io; ++i) j->io[i].data = io[i].data;
  for (int d = 0; d < rank; ++d) {
    if (dims[d] == 1) continue;
    bool joins = j->rank > 0;
    for (int i = 0; i < j->n_io && joins; ++i)
      joins = j->io[i].strides[j->rank - 1] == io[i].strides[d] * dims[d];
    const int to = joins ? j->rank - 1 : j->rank++;
    j->dims[to] = joins ? j->dims[to] * dims[d] : dims[d];
    for (int i = 0; i < j->n_io; ++i) j->io[i].strides[to] = io[i].strides[d];
  }
  if (j->rank == 0) {
    j->rank = 1;
    j->dims[0] = 1;
    for (int i = 0; i < j->n_io; ++i) j->io[i].strides[0] = 1;
  }
}

/* An output may be computed in place unless its memory is an input that is read after the output's
 * register is first written, or its register is shared. */
static bool output_in_place(const ew_job *j, int o) {
  const mrt_ew_program *p = j->prog;
  const int reg = p->out[o];
  if (reg < p->n_inputs) return false;
  for (int i = 0; i < o; ++i)
    if (p->out[i] == reg) return false;
  int first = p->n_instrs;
  for (int i = p->n_instrs - 1; i >= 0; --i)
    if (p->instrs[i].dst == reg) first = i;
  for (int in = 0; in < p->n_inputs; ++in) {
    if (j->io[in].data != j->io[p->n_inputs + o].data) continue;
    for (int i = first + 1; i < p->n_instrs; ++i) {
      const mrt_ew_instr *s = &p->instrs[i];
      const int arity = ops[s->op].arity;
      if (s->a == in || (arity > 1 && s->b == in) || (arity > 2 && s->c == in)) return false;
    }
  }
  return true;
}

static void classify(ew_job *j) {
  const mrt_ew_program *p = j->prog;
  for (int i = 0; i < j->n_io; ++i) {
    int64_t step = 1;
    j->dense[i] = true;
    for (int d = j->rank - 1; d >= 0; --d) {
      if (j->io[i].strides[d] != step) j->dense[i] = false;
      step *= j->dims[d];
    }
    j->in_place[i] = j->rows_per_tile > 1 ? j->dense[i] : j->io[i].strides[j->rank - 1] == 1;
  }
  for (int o = 0; o < p->n_outputs; ++o) {
    if (!output_in_place(j, o)) j->in_place[p->n_inputs + o] = false;
    if (p->out[o] < p->n_inputs) j->in_place[p->out[o]] = false;
  }
}

/* Position of a row: its index per outer dimension, and each array's offset. */
typedef struct cursor {
  int64_t idx[MRT_EW_MAX_RANK];
  int64_t off[MRT_EW_MAX_IO];
} cursor;

static void cursor_set(const ew_job *j, cursor *c, int64_t row) {
  for (int i = 0; i < j->n_io; ++i) c->off[i] = 0;
  for (int d = j->rank - 2; d >= 0; --d) {
    c->idx[d] = row % j->dims[d];
    row /= j->dims[d];
    for (int i = 0; i < j->n_io; ++i) c->off[i] += c->idx[d] * j->io[i].strides[d];
  }
}

static void cursor_next(const ew_job *j, cursor *c) {
  for (int d = j->rank - 2; d >= 0; --d) {
    for (int i = 0; i < j->n_io; ++i) c->off[i] += j->io[i].strides[d];
    if (++c->idx[d] < j->dims[d]) return;
    for (int i = 0; i < j->n_io; ++i) c->off[i] -= j->dims[d] * j->io[i].strides[d];
    c->idx[d] = 0;
  }
}

static void gather(float *dst, const float *src, int64_t stride, int64_t n) {
  if (stride == 1) {
    memcpy(dst, src, (size_t)n * sizeof(float));
  } else if (stride == 0) {
    const float x = *src;
    for (int64_t i = 0; i < n; ++i) dst[i] = x;
  } else {
    for (int64_t i = 0; i < n; ++i) dst[i] = src[i * stride];
  }
}

static void execute(const ew_job *j, float *const *reg, int64_t n) {
  for (int i = 0; i < j->prog->n_instrs; ++i) {
    const mrt_ew_instr *s = &j->prog->instrs[i];
    j->kern->fn[s->op](reg[s->dst], reg[s->a], reg[s->b], reg[s->c], s->p, n);
  }
}

/* One tile of one row: elements [x0, x0 + n). */
static void tile_in_row(const ew_job *j, float *const *own, const cursor *c, int64_t x0,
                        int64_t n) {
  const mrt_ew_program *p = j->prog;
  const int last = j->rank - 1;
  float *reg[MRT_EW_MAX_REGS];
  memcpy(reg, own, sizeof reg);
  for (int i = 0; i < p->n_inputs; ++i) {
    float *src = j->io[i].data + c->off[i] + x0 * j->io[i].strides[last];
    if (j->in_place[i])
      reg[i] = src;
    else
      gather(reg[i], src, j->io[i].strides[last], n);
  }
  for (int o = 0; o < p->n_outputs; ++o) {
    const int i = p->n_inputs + o;
    if (j->in_place[i]) reg[p->out[o]] = j->io[i].data + c->off[i] + x0;
  }
  execute(j, reg, n);
  for (int o = 0; o < p->n_outputs; ++o) {
    const int i = p->n_inputs + o;
    if (j->in_place[i]) continue;
    const int64_t stride = j->io[i].strides[last];
    float *dst = j->io[i].data + c->off[i] + x0 * stride;
    for (int64_t k = 0; k < n; ++k) dst[k * stride] = reg[p->out[o]][k];
  }
}

/* One tile of whole short rows [r0, r1). */
static void tile_of_rows(const ew_job *j, float *const *own, int64_t r0, int64_t r1) {
  const mrt_ew_program *p = j->prog;
  const int last = j->rank - 1;
  const int64_t n = j->row;
  float *reg[MRT_EW_MAX_REGS];
  memcpy(reg, own, sizeof reg);
  for (int i = 0; i < p->n_inputs; ++i)
    if (j->in_place[i]) reg[i] = j->io[i].data + r0 * n;
  for (int o = 0; o < p->n_outputs; ++o)
    if (j->in_place[p->n_inputs + o]) reg[p->out[o]] = j->io[p->n_inputs + o].data + r0 * n;
  cursor c;
  cursor_set(j, &c, r0);
  for (int64_t r = r0; r < r1; ++r, cursor_next(j, &c))
    for (int i = 0; i < p->n_inputs; ++i)
      if (!j->in_place[i])
        gather(reg[i] + (r - r0) * n, j->io[i].data + c.off[i], j->io[i].strides[last], n);
  execute(j, reg, (r1 - r0) * n);
  for (int o = 0; o < p->n_outputs; ++o) {
    const int i = p->n_inputs + o;
    if (j->in_place[i]) continue;
    cursor_set(j, &c, r0);
    for (int64_t r = r0; r < r1; ++r, cursor_next(j, &c))
      for (int64_t k = 0; k < n; ++k)
        j->io[i].data[c.off[i] + k * j->io[i].strides[last]] = reg[p->out[o]][(r - r0) * n + k];
  }
}

static void run_chunk(void *arg, int64_t chunk, int worker) {
  const ew_job *j = arg;
  float *own[MRT_EW_MAX_REGS] = {0};
  for (int i = 0; i < j->n_regs; ++i)
    own[i] = j->scratch + ((int64_t)worker * j->n_regs + i) * MRT_EW_TILE;
  const int64_t end = mrt_par_begin(j->tiles, j->chunks, chunk + 1);
  for (int64_t t = mrt_par_begin(j->tiles, j->chunks, chunk); t < end; ++t) {
    if (j->rows_per_tile > 1) {
      const int64_t r0 = t * j->rows_per_tile, r1 = r0 + j->rows_per_tile;
      tile_of_rows(j, own, r0, r1 < j->rows ? r1 : j->rows);
      continue;
    }
    cursor c;
    cursor_set(j, &c, t / j->tiles_per_row);
    const int64_t x0 = t % j->tiles_per_row * MRT_EW_TILE, left = j->row - x0;
    tile_in_row(j, own, &c, x0, left < MRT_EW_TILE ? left : MRT_EW_TILE);
  }
}

void mrt_ew_run(const mrt_par *par, const mrt_ew_program *prog, int rank, const int64_t *dims,
                const mrt_ew_array *io, void *scratch) {
  ew_job j = {.prog = prog,
              .kern = mrt_ew_kernels_get(),
              .scratch = scratch,
              .n_regs = register_count(prog),
              .n_io = prog->n_inputs + prog->n_outputs};
  for (int d = 0; d < rank; ++d)
    if (dims[d] <= 0) return;
  merge_dims(&j, rank, dims, io);
  j.row = j.dims[j.rank - 1];
  j.rows = 1;
  for (int d = 0; d < j.rank - 1; ++d) j.rows *= j.dims[d];
  j.rows_per_tile = j.row < SHORT_ROW && j.rows > 1 ? MRT_EW_TILE / j.row : 1;
  j.tiles_per_row = (j.row + MRT_EW_TILE - 1) / MRT_EW_TILE;
  j.tiles = j.rows_per_tile > 1 ? (j.rows + j.rows_per_tile - 1) / j.rows_per_tile
                                : j.rows * j.tiles_per_row;
  classify(&j);
  const double cost = (double)j.rows * (double)j.row * (0.1 * prog->n_instrs + 0.1 * j.n_io);
  j.chunks = mrt_par_chunks(j.tiles, cost);
  mrt_par_run(par, j.chunks, run_chunk, &j);
}
