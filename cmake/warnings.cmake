# Compiler flags. MRT_WARNINGS goes to our own sources only (generated C is not ours to mend);
# the interface target mrt_flags carries code generation and sanitizer flags to everything.
include(CheckCCompilerFlag)

set(MRT_WARNINGS
    -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes
    -Wno-missing-field-initializers) # descriptor tables rely on zero fill
if(MRT_WERROR)
  list(APPEND MRT_WARNINGS -Werror)
endif()

# Flags that only some compilers know; clang rejects gcc's under -Werror. Probed by their positive
# form, because gcc accepts any -Wno-.
foreach(flag format-truncation stringop-truncation)
  string(MAKE_C_IDENTIFIER "MRT_HAS_W${flag}" known)
  check_c_compiler_flag("-W${flag} -Werror" ${known})
  if(${known})
    list(APPEND MRT_WARNINGS "-Wno-${flag}")
  endif()
endforeach()

add_library(mrt_flags INTERFACE)
# No contraction: else instruction sets differ in the last bit for no visible reason. Nobody reads
# errno after a math function, nobody traps on floating point exceptions. Never -ffast-math.
target_compile_options(mrt_flags INTERFACE -ffp-contract=off -fno-math-errno -fno-trapping-math)
target_compile_definitions(mrt_flags INTERFACE _GNU_SOURCE)
# Each function is a section, so that the linker can order them (order.cmake).
target_compile_options(mrt_flags INTERFACE -ffunction-sections)
# __FILE__ names a file as people know it (ops/conv.c), whatever folder the build was made in.
target_compile_options(mrt_flags INTERFACE "-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/csrc/=")
if(MRT_SANITIZE)
  target_compile_options(mrt_flags INTERFACE "-fsanitize=${MRT_SANITIZE}" -fno-omit-frame-pointer)
  if(MRT_SANITIZE MATCHES "undefined")
    target_compile_options(mrt_flags INTERFACE -fno-sanitize-recover=undefined)
  endif()
  target_link_options(mrt_flags INTERFACE "-fsanitize=${MRT_SANITIZE}")
endif()
if(MRT_FUZZ)
  target_compile_options(mrt_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
