/* The lexer of the text form. Words, names and numbers are told apart by their first character. */
#include "ir/lexer.h"

#include <stdio.h>
#include <string.h>

static bool word_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
static bool digit(char c) { return c >= '0' && c <= '9'; }

mrt_status *mrt_lex_error(const mrt_lexer *x, const char *expected) {
  return MRT_ERR(MRT_INVALID_ARGUMENT, "line %d: expected %s, got '%.60s'", x->line, expected,
                 x->tok == MRT_TOK_END ? "end of text" : mrt_str_cstr(&x->text));
}

static void skip_space(mrt_lexer *x) {
  for (;; ++x->at) {
    if (*x->at == '#')
      while (x->at[1] && x->at[1] != '\n') ++x->at;
    else if (*x->at == '\n')
      ++x->line;
    else if (*x->at != ' ' && *x->at != '\t' && *x->at != '\r')
      return;
  }
}

static int hex(char c) {
  if (digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static mrt_status *read_quoted(mrt_lexer *x, char quote) {
  const char *p = x->at + 1;
  for (; *p && *p != quote; ++p) {
    char c = *p;
    if (c == '\\' && p[1] == 'n') {
      c = '\n';
      ++p;
    } else if (c == '\\' && p[1] == 'x' && hex(p[2]) >= 0 && hex(p[3]) >= 0) {
      c = (char)(hex(p[2]) * 16 + hex(p[3]));
      p += 3;
    } else if (c == '\\' && p[1]) {
      c = *++p;
    }
    mrt_str_addn(&x->text, &c, 1);
  }
  if (!*p) return MRT_ERR(MRT_INVALID_ARGUMENT, "line %d: a quote is never closed", x->line);
  x->at = p + 1;
  return NULL;
}

static void read_while(mrt_lexer *x, bool (*ok)(char c)) {
  const char *from = x->at;
  while (*x->at && ok(*x->at)) ++x->at;
  mrt_str_addn(&x->text, from, (size_t)(x->at - from));
}
static bool name_char(char c) {
  return word_char(c) || c == '.' || c == '/' || c == ':' || c == '-';
}
static bool dotted_char(char c) { return word_char(c) || c == '.'; }

/* A minus belongs to a number when a digit, "inf" or a dot follows. */
static bool number_start(const char *p) {
  if (*p == '-') ++p;
  return digit(*p) || (*p == '.' && digit(p[1])) || (p[-1] == '-' && strncmp(p, "inf", 3) == 0);
}

static void read_number(mrt_lexer *x) {
  const char *p = x->at;
  if (*p == '-') ++p;
  while (word_char(*p) || *p == '.' || ((*p == '-' || *p == '+') && (p[-1] == 'e' || p[-1] == 'E')))
    ++p;
  mrt_str_addn(&x->text, x->at, (size_t)(p - x->at));
  x->at = p;
}

mrt_status *mrt_lex_next(mrt_lexer *x) {
  skip_space(x);
  x->text.len = 0;
  mrt_str_add(&x->text, "");
  char c = *x->at;
  if (!c) {
    x->tok = MRT_TOK_END;
  } else if (c == '%' || c == '@') {
    x->tok = c == '%' ? MRT_TOK_VAR : MRT_TOK_CONST;
    ++x->at;
    if (*x->at == '"')
      MRT_TRY(read_quoted(x, '"'));
    else
      read_while(x, name_char);
    /* "%a: float": the colon after a plain name belongs to the type */
    if (x->text.len && x->at[-1] == ':') {
      --x->at;
      --x->text.len;
    }
  } else if (c == '"' || c == '\'') {
    x->tok = c == '"' ? MRT_TOK_STRING : MRT_TOK_SYMBOL;
    MRT_TRY(read_quoted(x, c));
  } else if (digit(c) || (c == '-' && number_start(x->at))) {
    x->tok = MRT_TOK_NUMBER;
    read_number(x);
  } else if (word_char(c)) {
    x->tok = MRT_TOK_WORD;
    read_while(x, dotted_char);
  } else {
    size_t n = strncmp(x->at, "...", 3) == 0 ? 3 : 1;
    x->tok = MRT_TOK_PUNCT;
    mrt_str_addn(&x->text, x->at, n);
    x->at += n;
  }
  if (x->text.data) x->text.data[x->text.len] = 0;
  return mrt_str_check(&x->text);
}

mrt_status *mrt_lex_init(mrt_lexer *x, const mrt_alloc *alloc, const char *text) {
  *x = (mrt_lexer){.at = text, .line = 1};
  mrt_str_init(&x->text, alloc);
  return mrt_lex_next(x);
}
void mrt_lex_deinit(mrt_lexer *x) { mrt_str_deinit(&x->text); }

bool mrt_lex_is(const mrt_lexer *x, const char *s) {
  return (x->tok == MRT_TOK_PUNCT || x->tok == MRT_TOK_WORD) &&
         strcmp(mrt_str_cstr(&x->text), s) == 0;
}
mrt_status *mrt_lex_accept(mrt_lexer *x, const char *s, bool *found) {
  *found = mrt_lex_is(x, s);
  return *found ? mrt_lex_next(x) : NULL;
}
mrt_status *mrt_lex_expect(mrt_lexer *x, const char *s) {
  char what[32];
  if (mrt_lex_is(x, s)) return mrt_lex_next(x);
  snprintf(what, sizeof what, "'%s'", s);
  return mrt_lex_error(x, what);
}
