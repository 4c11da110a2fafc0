/* Passes on text: every tests/passes/NAME.ir holds "# pass: a,b", a model, "# expect: fired N" and
 * the model that must come out. UPDATE_REFS=1 writes what came out. (run_text, pipeline,
 * infer_graph, eval_node) */
#include <dirent.h>
#include <stdlib.h>

#include "base/str.h"
#include "check.h"
#include "ir/op.h"
#include "pass/pass.h"

static char *read_file(const char *path) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  char *text = calloc(1, 1 << 20);
  size_t n = fread(text, 1, (1 << 20) - 1, f);
  text[n] = 0;
  fclose(f);
  return text;
}

static void run_file(const char *path) {
  char *text = read_file(path);
  int fired = 0;
  mrt_str got;
  CHECK(text != NULL);
  if (!text) return;
  char *passes = strstr(text, "# pass: "), *expect = strstr(text, "# expect:");
  if (!passes || !expect) {
    fprintf(stderr, "%s: no '# pass:' or no '# expect:'\n", path);
    ++check_failures;
    free(text);
    return;
  }
  char names[256], body[64];
  snprintf(names, sizeof names, "%.*s", (int)strcspn(passes + 8, "\n"), passes + 8);
  char *want = strdup(expect);
  *expect = 0;
  mrt_str_init(&got, mrt_alloc_default());
  CHECK_OK(
      mrt_pass_run_text(mrt_alloc_default(), mrt_ops_builtin(), text, names, -1, &fired, &got));
  snprintf(body, sizeof body, "# expect: fired %d\n", fired);
  mrt_str full;
  mrt_str_init(&full, mrt_alloc_default());
  mrt_str_add(&full, body);
  mrt_str_add(&full, mrt_str_cstr(&got));
  if (strcmp(mrt_str_cstr(&full), want) != 0) {
    if (getenv("UPDATE_REFS")) {
      FILE *f = fopen(path, "wb");
      fprintf(f, "%s%s", text, mrt_str_cstr(&full));
      fclose(f);
    } else {
      fprintf(stderr, "%s: expected\n%s\ngot\n%s\n", path, want, mrt_str_cstr(&full));
      ++check_failures;
    }
  }
  /* What was printed parses, and prints the same. */
  mrt_str again;
  mrt_str_init(&again, mrt_alloc_default());
  CHECK_OK(mrt_pass_run_text(mrt_alloc_default(), mrt_ops_builtin(), mrt_str_cstr(&got), "", -1,
                             &fired, &again));
  CHECK_STR(mrt_str_cstr(&again), mrt_str_cstr(&got));
  mrt_str_deinit(&again);
  mrt_str_deinit(&full);
  mrt_str_deinit(&got);
  free(want);
  free(text);
}

int main(void) {
  DIR *d = opendir(MRT_SOURCE_DIR "/tests/passes");
  int n = 0;
  CHECK(d != NULL);
  for (struct dirent *e; d && (e = readdir(d));) {
    char path[1024];
    size_t len = strlen(e->d_name);
    if (len < 4 || strcmp(e->d_name + len - 3, ".ir") != 0) continue;
    snprintf(path, sizeof path, "%s/tests/passes/%s", MRT_SOURCE_DIR, e->d_name);
    run_file(path);
    ++n;
  }
  if (d) closedir(d);
  CHECK(n > 0);
  return CHECK_DONE();
}
