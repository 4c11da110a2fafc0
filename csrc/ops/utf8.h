/* UTF-8 to code points and back, for the string operators. Bytes that are no UTF-8 are read as
 * U+FFFD, one at a time. */
#ifndef MRT_OPS_UTF8_H
#define MRT_OPS_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The code point at s[*at] (*at < n); moves *at behind it. */
static inline uint32_t mrt_utf8_next(const char *s, size_t n, size_t *at) {
  const unsigned char *p = (const unsigned char *)s + *at;
  size_t left = n - *at;
  int more = p[0] < 0x80                   ? 0
             : p[0] >= 0xc2 && p[0] < 0xe0 ? 1
             : (p[0] & 0xf0) == 0xe0       ? 2
             : p[0] >= 0xf0 && p[0] < 0xf5 ? 3
                                           : -1;
  static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
  uint32_t cp = more <= 0 ? p[0] : p[0] & (0x3fu >> more);
  *at += 1;
  if (more < 0 || (size_t)more >= left) return more == 0 ? cp : 0xfffd;
  for (int i = 1; i <= more; ++i) {
    if ((p[i] & 0xc0) != 0x80) return 0xfffd;
    cp = cp << 6 | (p[i] & 0x3f);
  }
  if (cp < least[more] || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) return 0xfffd;
  *at += (size_t)more;
  return cp;
}
/* Writes at most 4 bytes; their number. */
static inline int mrt_utf8_put(uint32_t cp, char *out) {
  if (cp < 0x80) {
    out[0] = (char)cp;
    return 1;
  }
  int n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
  for (int i = n - 1; i > 0; --i) {
    out[i] = (char)(0x80 | (cp & 0x3f));
    cp >>= 6;
  }
  out[0] = (char)((0xf00u >> n & 0xf0) | cp);
  return n;
}

#endif
