/* The text form and the pattern matcher: what does not parse says where, and patterns bind, refuse
 * shared inner nodes, and try both orders of commutative operators. (lexer, parse, print, pattern)
 */
#include "ir/pattern.h"
#include "ir/text.h"

#include "check.h"

static const char *const model_text =
    "model opset 21\n"
    "graph g(%x: float[N, 4], %m: float[N, 4]) {\n"
    "  @half: float[] = [0.5]\n"
    "  @root2: float[1] = [1.41421356]\n"
    "  @one: float[] = [1]\n"
    "  @w: float[4, 4] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]\n"
    "  %d: float[N, 4] = Div(%x, @root2)\n"
    "  %e: float[N, 4] = Erf(%d)\n"
    "  %a: float[N, 4] = Add(@one, %e)\n"
    "  %b: float[N, 4] = Mul(%a, %x)\n"
    "  %gelu: float[N, 4] = Mul(@half, %b)\n"
    "  %p: float[N, 4] = MatMul(%gelu, @w)\n"
    "  %s: float[N, 4] = Sigmoid(%p)\n"
    "  %y: float[N, 4] = Mul(%s, %p)\n"
    "  %z: float[N, 4] = Clip(%y)\n"
    "  return %z, %s\n"
    "}\n";

static mrt_node *maker(mrt_graph *g, const char *name) {
  mrt_var *v = mrt_graph_find(g, name);
  return v ? v->producer : NULL;
}

static void test_patterns(void) {
  mrt_model *m = NULL;
  mrt_match match;
  CHECK_OK(mrt_model_parse(mrt_alloc_default(), mrt_ops_builtin(), model_text, &m));
  if (!m) return;
  mrt_graph *g = m->graph;
  const char *gelu = "Mul(Mul(x, Add(e=Erf(Div(x, 1.41421354)), 1)), 0.5)";
  CHECK(mrt_pattern_match(gelu, maker(g, "gelu"), &match));
  CHECK(mrt_match_var(&match, "x") == mrt_graph_find(g, "x"));
  CHECK(mrt_match_node(&match, "e") == maker(g, "e"));
  CHECK(mrt_match_node(&match, "x") == NULL && mrt_match_var(&match, "nope") == NULL);
  CHECK_EQ_I(match.n_nodes, 5);
  /* another number, another operator, another root, a constant that is none */
  CHECK(!mrt_pattern_match("Mul(Mul(x, Add(Erf(Div(x, 1.5)), 1)), 0.5)", maker(g, "gelu"), &match));
  CHECK(!mrt_pattern_match("Mul(Mul(x, Add(Tanh(Div(x, _)), 1)), 0.5)", maker(g, "gelu"), &match));
  CHECK(!mrt_pattern_match(gelu, maker(g, "b"), &match));
  CHECK(!mrt_pattern_match("Mul(a:const, b:const)", maker(g, "gelu"), &match));
  CHECK(mrt_pattern_match("MatMul(x, w:const)", maker(g, "p"), &match));
  CHECK(!mrt_pattern_match("MatMul(w:const, x)", maker(g, "p"), &match)); /* not commutative */
  /* the same name is the same value */
  CHECK(mrt_pattern_match("Mul(Sigmoid(x), y)", maker(g, "y"), &match) == false); /* an output */
  CHECK(mrt_pattern_match("Mul(!Sigmoid(x), x)", maker(g, "y"), &match));
  CHECK(!mrt_pattern_match("Mul(!Sigmoid(x), !Clip(x))", maker(g, "y"), &match));
  CHECK(mrt_pattern_match("Relu|Clip(x, ...)", maker(g, "z"), &match));
  CHECK(mrt_pattern_match("Clip(x, _, _)", maker(g, "z"), &match));
  CHECK(!mrt_pattern_match("Clip(x, lo)", maker(g, "z"), &match)); /* absent */
  CHECK(!mrt_pattern_match("Mul(x)", maker(g, "gelu"), &match));   /* too few operands */
  /* removal takes the whole tree */
  CHECK(mrt_pattern_match(gelu, maker(g, "gelu"), &match));
  size_t before = g->n_nodes;
  CHECK_OK(mrt_var_replace(mrt_graph_find(g, "gelu"), mrt_graph_find(g, "m")));
  mrt_match_remove(&match);
  CHECK_EQ_I(before - g->n_nodes, 5);
  CHECK_OK(mrt_graph_verify(g));
  mrt_model_destroy(m);
}

static void test_errors(void) {
  static const struct {
    const char *text, *says;
  } cases[] = {
      {"graph", "line 1: expected 'model', got 'graph'"},
      {"model opset 21\ngraph g(%x: flot[2]) {", "line 2: expected an element type, got 'flot'"},
      {"model opset 21\ngraph g(%x: float[2]) {\n\n  %y: float[2] = Relu(%z)",
       "line 4: 'z' is not"},
      {"model opset 21\ngraph g(%x: float[2]) {\n  %y: ? = Nope(%x)\n return %y }",
       "line 3: No Op registered for Nope"},
      {"model opset 21\ngraph g(%x: float[2]) {\n  %x: ? = Relu(%x)",
       "line 3: This is an invalid model. Error: Duplicate"},
      {"model opset 21\ngraph g() {\n  @c: float[2] = [1]\n return }", "line 3: expected ','"},
      {"model opset 21\ngraph g() {\n  @c: float[2] = ...\n return }", "line 3: the constant's"},
      {"model opset 21\ngraph g() {\n  @c: float[2] = [1, a]\n return }",
       "line 3: expected a number"},
      {"model opset 21\ngraph g(%x: float[2]) {\n  return %x\n} tail",
       "line 4: expected end of text"},
      {"model opset 21\ngraph g(%x: float[\"a", "line 2: a quote is never closed"},
      {"model opset 21\ngraph g(%x: float[2]) {\n  %y: ? = Relu(%x) {axis = 1}\n return %y }",
       "Unrecognized attribute: axis"},
      {"model opset 21\ngraph g(%x: float[1]) {\n  %y: ? = Elu(%x) {alpha = 1.5}\n return %y }",
       "line 3: expected an integer, got '1.5'"},
  };
  int64_t live = mrt_alloc_live_bytes();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    mrt_model *m = NULL;
    mrt_status *st = mrt_model_parse(mrt_alloc_default(), mrt_ops_builtin(), cases[i].text, &m);
    CHECK(st != NULL && m == NULL);
    if (!st) fprintf(stderr, "case %zu parsed\n", i);
    if (st && !strstr(mrt_status_message(st), cases[i].says)) {
      fprintf(stderr, "case %zu says: %s\n", i, mrt_status_message(st));
      ++check_failures;
    }
    mrt_status_free(st);
  }
  char deep[4096] = "model opset 21\ngraph g(%x: ";
  for (int i = 0; i < 200; ++i) strcat(deep, "seq(");
  mrt_model *m = NULL;
  mrt_status *st = mrt_model_parse(mrt_alloc_default(), mrt_ops_builtin(), deep, &m);
  CHECK(st != NULL);
  mrt_status_free(st);
  CHECK_EQ_I(mrt_alloc_live_bytes(), live);
}

static void test_round_trip(void) {
  mrt_model *m = NULL;
  mrt_str a, b;
  const char *text =
      "model opset 21\n"
      "graph \"a \\\"b\\\"\"(%\"x y\": float[2*N + floordiv(M, 4), min(N, M)], "
      "%s: seq(string[*]), %o: optional(?), %t: ?) {\n"
      "  @i: uint64[2] = [18446744073709551615, 0]\n"
      "  @f: float[4] = [inf, -inf, nan, 1.40129846e-45]\n"
      "  @h: float16[2] = [0.5, -2]\n"
      "  @n: int4[3] = [-8, 7, 1]\n"
      "  @b: bool[2] = [true, false]\n"
      "  @q: string[2] = [\"a\\n\\x01\", \"\"]\n"
      "  return @i, @f, @h, @n, @b, @q\n"
      "}\n";
  CHECK_OK(mrt_model_parse(mrt_alloc_default(), mrt_ops_builtin(), text, &m));
  mrt_str_init(&a, mrt_alloc_default());
  mrt_str_init(&b, mrt_alloc_default());
  if (m) CHECK_OK(mrt_model_print(m, -1, &a));
  mrt_model_destroy(m);
  m = NULL;
  CHECK_OK(mrt_model_parse(mrt_alloc_default(), mrt_ops_builtin(), mrt_str_cstr(&a), &m));
  if (m) CHECK_OK(mrt_model_print(m, -1, &b));
  CHECK_STR(mrt_str_cstr(&a), mrt_str_cstr(&b));
  CHECK_STR(mrt_str_cstr(&a), text);
  mrt_model_destroy(m);
  mrt_str_deinit(&a);
  mrt_str_deinit(&b);
}

int main(void) {
  test_patterns();
  test_errors();
  test_round_trip();
  return CHECK_DONE();
}
