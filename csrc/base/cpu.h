/* CPU features, cache sizes, page size. Detected once, capped by the environment variable
 * MRT_CPU_ISA (scalar, avx2, avx512, avx512vnni, avx512bf16, amx). */
#ifndef MRT_BASE_CPU_H
#define MRT_BASE_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  MRT_ISA_SCALAR = 0,
#define MRT_ISA(id, bit, name, doc) MRT_ISA_##id = 1 << (bit),
#include "base/cpu_isa.def"
#undef MRT_ISA
};

typedef struct mrt_cpu {
  uint32_t isa;             /* MRT_ISA_ bits usable now: detected and not capped */
  uint32_t detected;        /* what the machine has */
  char name[64];            /* brand string */
  bool dot_bf16;            /* vdpbf16ps is there and faster than multiply-adds (MRT_BF16_DOT) */
  const char *wrong_cap;    /* a value of MRT_CPU_ISA that is no set; else NULL */
  size_t l1d, l2, l3, page; /* bytes, per core for l1d and l2 */
} mrt_cpu;

const mrt_cpu *mrt_cpu_get(void); /* thread safe, never fails */
const char *mrt_isa_name(uint32_t isa_bit);

#endif
