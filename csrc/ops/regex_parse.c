/* Recursive descent over RE2's syntax. */
#include <string.h>

#include "ops/regex_internal.h"
#include "ops/utf8.h"

#define MAX_DEPTH  200
#define MAX_REPEAT 1000
#define MAX_CP     0x10ffffu

typedef struct parser {
  mrt_arena *arena;
  const char *p;
  size_t n, at;
  bool fold, dot_all, multi_line; /* (?i) (?s) (?m) */
  int depth;
} parser;

static mrt_status *bad(const parser *s, const char *what) {
  return MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid regex pattern '%.*s': %s at %zu",
                 (int)(s->n < 200 ? s->n : 200), s->p, what, s->at);
}
static bool more(const parser *s) { return s->at < s->n; }
static bool peek(const parser *s, char c) { return more(s) && s->p[s->at] == c; }
static bool take(parser *s, char c) {
  if (!peek(s, c)) return false;
  ++s->at;
  return true;
}
static bool take_text(parser *s, const char *t) {
  size_t k = strlen(t);
  if (s->n - s->at < k || memcmp(s->p + s->at, t, k) != 0) return false;
  s->at += k;
  return true;
}
static mrt_status *new_node(parser *s, mrt_re_kind kind, mrt_re_node **out) {
  *out = mrt_arena_alloc(s->arena, sizeof **out);
  if (!*out) return mrt_status_oom();
  (*out)->kind = kind;
  return NULL;
}

/* ---- sets ---- */
static mrt_status *add_range(parser *s, mrt_re_node *set, uint32_t lo, uint32_t hi) {
  mrt_re_range *r = mrt_arena_alloc(s->arena, sizeof *r);
  if (!r) return mrt_status_oom();
  *r = (mrt_re_range){lo, hi, set->ranges};
  set->ranges = r;
  return NULL;
}
/* The same, and with (?i) its other case. */
static mrt_status *add_folded(parser *s, mrt_re_node *set, uint32_t lo, uint32_t hi) {
  MRT_TRY(add_range(s, set, lo, hi));
  if (!s->fold) return NULL;
  if (hi > 0x7f && !(lo <= 0x80 && hi == MAX_CP))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "regex: (?i) on characters outside ASCII");
  for (int up = 0; up < 2; ++up) {
    uint32_t a = up ? 'A' : 'a', z = a + 25, l = lo > a ? lo : a, h = hi < z ? hi : z;
    if (l <= h) MRT_TRY(add_range(s, set, up ? l + 32 : l - 32, up ? h + 32 : h - 32));
  }
  return NULL;
}
static const struct {
  const char *name;
  uint8_t ranges[9]; /* pairs; 0 length ends; first byte: number of pairs */
} classes[] = {{"d", {1, '0', '9'}},
               {"s", {3, '\t', '\n', '\f', '\r', ' ', ' '}},
               {"w", {4, '0', '9', 'A', 'Z', 'a', 'z', '_', '_'}},
               {"alnum", {3, '0', '9', 'A', 'Z', 'a', 'z'}},
               {"alpha", {2, 'A', 'Z', 'a', 'z'}},
               {"ascii", {1, 0, 0x7f}},
               {"blank", {2, '\t', '\t', ' ', ' '}},
               {"cntrl", {2, 0, 0x1f, 0x7f, 0x7f}},
               {"digit", {1, '0', '9'}},
               {"graph", {1, '!', '~'}},
               {"lower", {1, 'a', 'z'}},
               {"print", {1, ' ', '~'}},
               {"punct", {4, '!', '/', ':', '@', '[', '`', '{', '~'}},
               {"space", {2, '\t', '\r', ' ', ' '}},
               {"upper", {1, 'A', 'Z'}},
               {"word", {4, '0', '9', 'A', 'Z', 'a', 'z', '_', '_'}},
               {"xdigit", {3, '0', '9', 'A', 'F', 'a', 'f'}}};
/* Adds a named class, or everything outside it. The ranges above are ascending. */
static mrt_status *add_class(parser *s, mrt_re_node *set, const char *name, size_t len,
                             bool negated) {
  for (size_t i = 0; i < sizeof classes / sizeof *classes; ++i) {
    if (strlen(classes[i].name) != len || memcmp(classes[i].name, name, len) != 0) continue;
    const uint8_t *r = classes[i].ranges;
    uint32_t from = 0;
    for (int k = 0; k < r[0]; ++k) {
      uint32_t lo = r[1 + 2 * k], hi = r[2 + 2 * k];
      if (!negated) MRT_TRY(add_folded(s, set, lo, hi));
      if (negated && lo > from) MRT_TRY(add_range(s, set, from, lo - 1));
      from = hi + 1;
    }
    return negated ? add_range(s, set, from, MAX_CP) : NULL;
  }
  return bad(s, "unknown character class");
}

static int hex(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}
static mrt_status *hex_escape(parser *s, uint32_t *cp) {
  bool braces = take(s, '{');
  int k = 0;
  *cp = 0;
  while (more(s) && hex(s->p[s->at]) >= 0 && (braces ? *cp <= MAX_CP : k < 2)) {
    *cp = *cp * 16 + (uint32_t)hex(s->p[s->at++]);
    ++k;
  }
  if (braces ? (!take(s, '}') || !k || *cp > MAX_CP) : k != 2) return bad(s, "bad \\x escape");
  return NULL;
}
/* After a backslash: a class (added to set, *cp = UINT32_MAX) or one character. */
static mrt_status *escape(parser *s, mrt_re_node *set, uint32_t *cp) {
  if (!more(s)) return bad(s, "trailing \\");
  static const char from[] = "ntrfva", to[] = "\n\t\r\f\v\a";
  char c = s->p[s->at++];
  const char *k = memchr(from, c, 6);
  *cp = UINT32_MAX;
  if (c == 'p' || c == 'P') return MRT_ERR(MRT_NOT_IMPLEMENTED, "regex: Unicode class \\%c", c);
  if (c == 'C') return MRT_ERR(MRT_NOT_IMPLEMENTED, "regex: \\C");
  if (c == 'd' || c == 's' || c == 'w') return add_class(s, set, &c, 1, false);
  if (c == 'D' || c == 'S' || c == 'W') {
    char lower = (char)(c + 32);
    return add_class(s, set, &lower, 1, true);
  }
  if (c == 'x') return hex_escape(s, cp);
  if (k) {
    *cp = (uint32_t)to[k - from];
  } else if (c == '0') {
    *cp = 0;
    for (int i = 0; i < 2 && more(s) && s->p[s->at] >= '0' && s->p[s->at] <= '7'; ++i)
      *cp = *cp * 8 + (uint32_t)(s->p[s->at++] - '0');
  } else if ((c >= '1' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
    return bad(s, "invalid escape sequence");
  } else {
    --s->at;
    *cp = mrt_utf8_next(s->p, s->n, &s->at);
  }
  return NULL;
}
/* One character of a bracket set, or a class added to it (*cp = UINT32_MAX). */
static mrt_status *set_item(parser *s, mrt_re_node *set, uint32_t *cp) {
  if (take_text(s, "[:")) {
    bool negated = take(s, '^');
    const char *end = NULL;
    for (size_t i = s->at; i + 1 < s->n && !end; ++i)
      if (s->p[i] == ':' && s->p[i + 1] == ']') end = s->p + i;
    if (!end) return bad(s, "missing :]");
    *cp = UINT32_MAX;
    MRT_TRY(add_class(s, set, s->p + s->at, (size_t)(end - s->p) - s->at, negated));
    s->at = (size_t)(end - s->p) + 2;
    return NULL;
  }
  if (take(s, '\\')) return escape(s, set, cp);
  *cp = mrt_utf8_next(s->p, s->n, &s->at);
  return NULL;
}
static mrt_status *bracket(parser *s, mrt_re_node **out) {
  uint32_t lo, hi;
  MRT_TRY(new_node(s, RE_SET, out));
  (*out)->negated = take(s, '^');
  for (bool first = true; first || !peek(s, ']'); first = false) {
    if (!more(s)) return bad(s, "missing closing ]");
    MRT_TRY(set_item(s, *out, &lo));
    if (lo == UINT32_MAX) continue;
    hi = lo;
    if (peek(s, '-') && s->at + 1 < s->n && s->p[s->at + 1] != ']') {
      ++s->at;
      MRT_TRY(set_item(s, *out, &hi));
      if (hi == UINT32_MAX || hi < lo) return bad(s, "invalid character range");
    }
    MRT_TRY(add_folded(s, *out, lo, hi));
  }
  ++s->at;
  return NULL;
}

/* ---- the rest ---- */
static mrt_status *alternatives(parser *s, mrt_re_node **out);

static mrt_status *assertion(parser *s, mrt_re_assert what, mrt_re_node **out) {
  MRT_TRY(new_node(s, RE_ASSERT, out));
  (*out)->what = what;
  return NULL;
}
static mrt_status *literal(parser *s, uint32_t cp, mrt_re_node **out) {
  MRT_TRY(new_node(s, RE_SET, out));
  return add_folded(s, *out, cp, cp);
}
/* After "(?": flags; true in *group if a group of its own follows. */
static mrt_status *flags(parser *s, bool *group) {
  bool on = true;
  *group = false;
  if (take_text(s, "P<") || (peek(s, '<') && take(s, '<'))) { /* a name: captures are not kept */
    size_t from = s->at;
    while (more(s) && !peek(s, '>')) ++s->at;
    if (!take(s, '>') || s->at == from + 1) return bad(s, "invalid named capture group");
    *group = true;
    return NULL;
  }
  while (more(s)) {
    char c = s->p[s->at++];
    if (c == ':' || c == ')') {
      *group = c == ':';
      return NULL;
    }
    if (c == '-' && on)
      on = false;
    else if (c == 'i')
      s->fold = on;
    else if (c == 's')
      s->dot_all = on;
    else if (c == 'm')
      s->multi_line = on;
    else if (c != 'U') /* greediness does not change what matches as a whole */
      return bad(s, "invalid perl operator");
  }
  return bad(s, "missing )");
}
static mrt_status *group(parser *s, mrt_re_node **out) {
  parser outer = *s;
  bool own = true;
  *out = NULL;
  if (take(s, '?')) MRT_TRY(flags(s, &own));
  if (!own) { /* flags from here to the end of the enclosing group */
    return new_node(s, RE_CAT, out);
  }
  if (++s->depth > MAX_DEPTH)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "regex: groups nested too deeply");
  MRT_TRY(alternatives(s, out));
  --s->depth;
  if (!take(s, ')')) return bad(s, "missing )");
  s->fold = outer.fold;
  s->dot_all = outer.dot_all;
  s->multi_line = outer.multi_line;
  return NULL;
}
static mrt_status *quoted(parser *s, mrt_re_node **out) { /* \Q ... \E */
  MRT_TRY(new_node(s, RE_CAT, out));
  mrt_re_node **tail = &(*out)->child;
  while (more(s) && !take_text(s, "\\E")) {
    MRT_TRY(literal(s, mrt_utf8_next(s->p, s->n, &s->at), tail));
    tail = &(*tail)->next;
  }
  return NULL;
}
static mrt_status *atom(parser *s, mrt_re_node **out) {
  uint32_t cp;
  if (take(s, '(')) return group(s, out);
  if (take(s, '[')) return bracket(s, out);
  if (take(s, '^')) return assertion(s, s->multi_line ? RE_LINE_BEGIN : RE_TEXT_BEGIN, out);
  if (take(s, '$')) return assertion(s, s->multi_line ? RE_LINE_END : RE_TEXT_END, out);
  if (take_text(s, "\\A")) return assertion(s, RE_TEXT_BEGIN, out);
  if (take_text(s, "\\z")) return assertion(s, RE_TEXT_END, out);
  if (take_text(s, "\\b")) return assertion(s, RE_WORD_BOUNDARY, out);
  if (take_text(s, "\\B")) return assertion(s, RE_NOT_WORD_BOUNDARY, out);
  if (take_text(s, "\\Q")) return quoted(s, out);
  if (take(s, '.')) {
    MRT_TRY(new_node(s, RE_SET, out));
    MRT_TRY(add_range(s, *out, 0, s->dot_all ? MAX_CP : '\n' - 1));
    return s->dot_all ? NULL : add_range(s, *out, '\n' + 1, MAX_CP);
  }
  if (peek(s, '*') || peek(s, '+') || peek(s, '?'))
    return bad(s, "no argument for repetition operator");
  if (take(s, '\\')) {
    MRT_TRY(new_node(s, RE_SET, out));
    MRT_TRY(escape(s, *out, &cp));
    return cp == UINT32_MAX ? NULL : add_folded(s, *out, cp, cp);
  }
  return literal(s, mrt_utf8_next(s->p, s->n, &s->at), out);
}
static bool number(parser *s, int *out) {
  size_t from = s->at;
  *out = 0;
  while (more(s) && s->p[s->at] >= '0' && s->p[s->at] <= '9' && *out <= MAX_REPEAT)
    *out = *out * 10 + (s->p[s->at++] - '0');
  return s->at > from;
}
/* {n}, {n,}, {n,m}; anything else after { is a literal: *found false. */
static mrt_status *counted(parser *s, int *min, int *max, bool *found) {
  size_t from = s->at;
  *found = take(s, '{') && number(s, min);
  if (*found) {
    *max = *min;
    if (take(s, ',') && !number(s, max)) *max = -1;
    *found = take(s, '}');
  }
  if (!*found) {
    s->at = from;
    return NULL;
  }
  if (*min > MAX_REPEAT || *max > MAX_REPEAT || (*max >= 0 && *max < *min))
    return bad(s, "invalid repetition size");
  return NULL;
}
static mrt_status *repeated(parser *s, mrt_re_node **out) {
  MRT_TRY(atom(s, out));
  for (int times = 0;; ++times) {
    int min = 0, max = -1;
    bool found = true;
    if (take(s, '*')) {
    } else if (take(s, '+')) {
      min = 1;
    } else if (take(s, '?')) {
      max = 1;
    } else {
      MRT_TRY(counted(s, &min, &max, &found));
    }
    if (!found) return NULL;
    if (times) return bad(s, "bad repetition operator");
    take(s, '?'); /* lazy: matches the same whole strings */
    mrt_re_node *child = *out;
    MRT_TRY(new_node(s, RE_REPEAT, out));
    (*out)->child = child;
    (*out)->min = min;
    (*out)->max = max;
  }
}
static mrt_status *alternatives(parser *s, mrt_re_node **out) {
  MRT_TRY(new_node(s, RE_ALT, out));
  mrt_re_node **alt = &(*out)->child;
  do {
    MRT_TRY(new_node(s, RE_CAT, alt));
    mrt_re_node **tail = &(*alt)->child;
    while (more(s) && !peek(s, '|') && !peek(s, ')')) {
      MRT_TRY(repeated(s, tail));
      tail = &(*tail)->next;
    }
    alt = &(*alt)->next;
  } while (take(s, '|'));
  return NULL;
}

mrt_status *mrt_re_parse(mrt_arena *arena, const char *pattern, size_t len, mrt_re_node **out) {
  parser s = {.arena = arena, .p = pattern, .n = len};
  MRT_TRY(alternatives(&s, out));
  return more(&s) ? bad(&s, "unexpected )") : NULL;
}
