/* QLinearAdd and QLinearMul on the byte loops: arrays of one shape, or a scalar second operand
 * along the innermost rows; other broadcasts take the row's own steps in the reference kernel. */
#include "ops/qlinear.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/qgemm/qbytes.h"

typedef struct rows_job {
  mrt_qbinary p;
  const mrt_qbytes *loops;
  bool mul;
  int64_t chunks, a_step, b_step; /* steps of the innermost row: 0 or 1 */
} rows_job;

static void one_row(void *arg, const int64_t *off, int64_t out, int64_t n) {
  const rows_job *j = arg;
  mrt_qbinary p = j->p;
  p.a += off[0];
  p.b += off[1];
  p.y += out;
  p.n = n;
  if (!j->a_step && j->b_step) { /* the scalar goes second */
    const mrt_qbinary q = p;
    p.a = q.b, p.az = q.bz;
    p.b = q.a, p.bz = q.az;
    if (!j->mul) p.ra = q.rb, p.rb = q.ra;
    p.swapped = true;
  }
  p.b_one = !j->a_step || !j->b_step;
  (j->mul ? j->loops->mul : j->loops->add)(&p);
}

static void one_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const rows_job *j = arg;
  const int64_t begin = mrt_par_begin(j->p.n, j->chunks, chunk),
                off[2] = {j->a_step ? begin : 0, j->b_step ? begin : 0};
  one_row(arg, off, begin, mrt_par_begin(j->p.n, j->chunks, chunk + 1) - begin);
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  mrt_qbinary_params q;
  const mrt_tensor *in[2] = {mrt_in(c, 0), mrt_in(c, 3)};
  mrt_tensor *y = mrt_out(c, 0);
  mrt_bcast bc;
  if (!y || !mrt_tensor_count(y)) return NULL;
  MRT_TRY(mrt_qbinary_read(c, &q));
  MRT_TRY(mrt_bcast_init(&bc, 2, in, y->rank, y->dims));
  const bool s = y->dtype == MRT_INT8;
  rows_job j = {.loops = mrt_qbytes_get(),
                .mul = q.mul,
                .a_step = bc.strides[0][bc.rank - 1],
                .b_step = bc.strides[1][bc.rank - 1]};
  j.p = (mrt_qbinary){.a = in[0]->data,
                      .b = in[1]->data,
                      .y = y->data,
                      .n = bc.dims[0],
                      .flip = s ? 0x80 : 0,
                      .az = q.a_zero + (s ? 128 : 0),
                      .bz = q.b_zero + (s ? 128 : 0),
                      .zero = q.c_zero,
                      .ra = q.ra,
                      .rb = q.rb,
                      .lo = (float)(q.lo - q.c_zero),
                      .hi = (float)(q.hi - q.c_zero)};
  if ((j.a_step != 0 && j.a_step != 1) || (j.b_step != 0 && j.b_step != 1) ||
      (!j.a_step && !j.b_step && bc.rank > 1))
    return mrt_qbinary_run(c);
  if (bc.rank > 1) {
    mrt_bcast_each_row(&bc, one_row, &j);
    return NULL;
  }
  j.chunks = mrt_par_chunks(j.p.n, (double)j.p.n * 0.15);
  mrt_par_run(&c->par, j.chunks, one_chunk, &j);
  return NULL;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "qbinary", run, NULL, out);
}
MRT_CPU_KERNEL(q_linear_add) = {"com.microsoft", "QLinearAdd", NULL, create};
MRT_CPU_KERNEL(q_linear_mul) = {"com.microsoft", "QLinearMul", NULL, create};
MRT_CPU_KERNEL(q_linear_add_mt) = {"macart", "QLinearAdd", NULL, create};
MRT_CPU_KERNEL(q_linear_mul_mt) = {"macart", "QLinearMul", NULL, create};
