/* CPU detection by cpuid and xgetbv: an instruction set counts only when the OS saves its
 * registers (and, for AMX, has granted permission to use them). */
#include "base/cpu.h"

#include <stdbool.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>

static uint64_t xcr0(void) {
  uint32_t lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (uint64_t)hi << 32 | lo;
}

static int amx_permission(void) {
  return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XTILEDATA */) == 0;
}

static uint32_t detect(char *name) {
  uint32_t a, b, c, d, isa = 0;
  if (__get_cpuid(0x80000004, &a, &b, &c, &d))
    for (uint32_t i = 0; i < 3; ++i) {
      uint32_t r[4];
      __get_cpuid(0x80000002 + i, &r[0], &r[1], &r[2], &r[3]);
      memcpy(name + 16 * i, r, 16);
    }
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  int osxsave = c >> 27 & 1, avx = c >> 28 & 1, fma = c >> 12 & 1, f16c = c >> 29 & 1;
  if (!osxsave || !avx || !fma || !f16c || (xcr0() & 6) != 6) return 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 5 & 1)) return 0;
  isa |= MRT_ISA_AVX2;
  uint32_t f512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31; /* F DQ CD BW VL */
  if ((b & f512) != f512 || (xcr0() & 0xe0) != 0xe0) return isa;
  isa |= MRT_ISA_AVX512;
  if (!(c >> 11 & 1)) return isa;
  isa |= MRT_ISA_AVX512VNNI;
  uint32_t d7 = d, a1, b1, c1, d1;
  if (!__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1) || !(a1 >> 5 & 1)) return isa;
  isa |= MRT_ISA_AVX512BF16;
  uint32_t amx = 1u << 22 | 1u << 24 | 1u << 25; /* bf16, tile, int8 */
  if ((d7 & amx) == amx && (xcr0() >> 17 & 3) == 3 && amx_permission()) isa |= MRT_ISA_AMX;
  return isa;
}

/* Zen 4 and later multiply two bf16 in a lane as fast as one float; on Intel's cores with
 * AVX512_BF16 the instruction takes twice the time or more (Sapphire Rapids: 86-110 GF/s beside
 * 170-250). */
static bool fast_dot(void) {
  uint32_t a, b, c, d;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return false;
  if (b != signature_AMD_ebx || c != signature_AMD_ecx || d != signature_AMD_edx) return false;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
  const uint32_t family = (a >> 8 & 15) + (a >> 20 & 255);
  return family >= 0x19;
}
#else
static uint32_t detect(char *name) {
  strcpy(name, "unknown");
  return 0;
}
static bool fast_dot(void) { return false; }
#endif

static const struct {
  const char *name;
  uint32_t bit;
} names[] = {
#define MRT_ISA(id, bit, name, doc) {name, MRT_ISA_##id},
#include "base/cpu_isa.def"
#undef MRT_ISA
};
#define N_NAMES (sizeof names / sizeof *names)

const char *mrt_isa_name(uint32_t isa_bit) {
  for (size_t i = 0; i < N_NAMES; ++i)
    if (names[i].bit == isa_bit) return names[i].name;
  return "scalar";
}

static mrt_cpu cpu;
static void choose_dot(void) {
  const char *dot = MRT_ENV("MRT_BF16_DOT", "",
                            "1 or 0: compute products of precision medium by bf16 dot products "
                            "(vdpbf16ps) where the CPU has these and no AMX, or never; by default "
                            "where they are faster than multiply-adds: AMD from Zen 4 on");
  cpu.dot_bf16 = *dot ? *dot == '1' : fast_dot();
  if (!(cpu.isa & MRT_ISA_AVX512BF16)) cpu.dot_bf16 = false;
}

static void init(void) {
  cpu.detected = cpu.isa = detect(cpu.name);
  const char *cap = MRT_ENV("MRT_CPU_ISA", "",
                            "highest instruction set that kernels may use: scalar, avx2, avx512, "
                            "avx512vnni, avx512bf16 or amx");
  if (*cap) {
    bool known = strcmp(cap, "scalar") == 0;
    uint32_t keep = 0;
    for (size_t i = 0; i < N_NAMES && !known; ++i) {
      keep |= names[i].bit;
      known = strcmp(names[i].name, cap) == 0;
    }
    if (!known) cpu.wrong_cap = cap;
    cpu.isa &= keep;
  }
  choose_dot();
  long v = sysconf(_SC_LEVEL1_DCACHE_SIZE);
  cpu.l1d = v > 0 ? (size_t)v : 32768;
  v = sysconf(_SC_LEVEL2_CACHE_SIZE);
  cpu.l2 = v > 0 ? (size_t)v : 1 << 20;
  v = sysconf(_SC_LEVEL3_CACHE_SIZE);
  cpu.l3 = v > 0 ? (size_t)v : 8 << 20;
  v = sysconf(_SC_PAGESIZE);
  cpu.page = v > 0 ? (size_t)v : 4096;
}

const mrt_cpu *mrt_cpu_get(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, init);
  return &cpu;
}
