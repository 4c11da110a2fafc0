/* Random numbers that depend on a seed and an element's number only: the same for any number of
 * threads and any order of computation. */
#ifndef MRT_OPS_RANDOM_H
#define MRT_OPS_RANDOM_H

#include "ops/common.h"

/* The stream of a node's run: of its `seed` attribute and the number of the run in its session (so
 * that a new session repeats what an earlier one drew), or, without a seed, of a process-wide
 * counter that starts at a random place. */
uint64_t mrt_random_key(mrt_kctx *c);
/* Sets that counter: runs from now on repeat those after an earlier call with the same seed. */
void mrt_random_seed(int64_t seed);

/* 64 random bits, number i of a stream: two rounds of multiply-xorshift over a Weyl sequence. */
static inline uint64_t mrt_random_bits(uint64_t key, uint64_t i) {
  uint64_t x = key + (i + 1) * 0x9e3779b97f4a7c15u;
  for (int round = 0; round < 2; ++round) {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
  }
  return x ^ x >> 32;
}
/* Uniform in [0, 1), 53 bits. */
static inline double mrt_random_unit(uint64_t key, uint64_t i) {
  return (double)(mrt_random_bits(key, i) >> 11) * 0x1p-53;
}
/* Standard normal (Box and Muller). */
double mrt_random_normal(uint64_t key, uint64_t i);

#endif
