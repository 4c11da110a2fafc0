/* Tokens of the text form (ir/text.h), for ir/parse.c and nobody else. The lexer holds one token;
 * the first error sticks, so that a parser may look at it once per construct. */
#ifndef MRT_IR_LEXER_H
#define MRT_IR_LEXER_H

#include "base/str.h"

typedef enum mrt_tok {
  MRT_TOK_END,
  MRT_TOK_WORD,   /* identifier; may hold dots */
  MRT_TOK_NUMBER, /* text as written */
  MRT_TOK_STRING, /* "...", unescaped */
  MRT_TOK_SYMBOL, /* '...', unescaped: a dim's name */
  MRT_TOK_VAR,    /* %name */
  MRT_TOK_CONST,  /* @name */
  MRT_TOK_PUNCT,  /* one character, or "..." */
} mrt_tok;

typedef struct mrt_lexer {
  const char *at;
  int line;
  mrt_tok tok;
  mrt_str text; /* of the token */
} mrt_lexer;

mrt_status *mrt_lex_init(mrt_lexer *x, const mrt_alloc *alloc,
                         const char *text) MRT_MUST_CHECK; /* reads the first token */
void mrt_lex_deinit(mrt_lexer *x);
mrt_status *mrt_lex_next(mrt_lexer *x) MRT_MUST_CHECK;
bool mrt_lex_is(const mrt_lexer *x, const char *punct_or_word);
/* Steps over it if it is there. */
mrt_status *mrt_lex_accept(mrt_lexer *x, const char *punct_or_word, bool *found) MRT_MUST_CHECK;
mrt_status *mrt_lex_expect(mrt_lexer *x, const char *punct_or_word) MRT_MUST_CHECK;
/* "line 3: expected ..., got '...'" */
mrt_status *mrt_lex_error(const mrt_lexer *x, const char *expected) MRT_MUST_CHECK;

#endif
