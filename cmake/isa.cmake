# Instruction sets: the suffix of a file's name is the build rule. NAME_avx2.c is compiled with
# AVX2's flags and nothing else is; csrc/base/cpu.c checks at run time for every feature named here.
# The sets are cumulative, in the order of csrc/base/cpu_isa.def. On other CPUs than x86-64 no such
# file is compiled, and no MRT_HAVE_ macro is defined.
include(CheckCCompilerFlag)

set(MRT_ISA_NAMES avx2 avx512 avx512vnni avx512bf16 amx)
set(MRT_ISA_avx2 -mavx2 -mfma -mf16c)
set(MRT_ISA_avx512 ${MRT_ISA_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512cd)
check_c_compiler_flag(-mprefer-vector-width=512 MRT_HAS_PREFER_512)
if(MRT_HAS_PREFER_512)
  list(APPEND MRT_ISA_avx512 -mprefer-vector-width=512)
endif()
set(MRT_ISA_avx512vnni ${MRT_ISA_avx512} -mavx512vnni)
set(MRT_ISA_avx512bf16 ${MRT_ISA_avx512vnni} -mavx512bf16)
set(MRT_ISA_amx ${MRT_ISA_avx512bf16} -mamx-tile -mamx-bf16 -mamx-int8)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(MRT_X86_64 ON)
  foreach(isa ${MRT_ISA_NAMES})
    string(TOUPPER "${isa}" macro)
    target_compile_definitions(mrt_flags INTERFACE "MRT_HAVE_${macro}=1")
  endforeach()
endif()

# Gives each source its instruction set's flags; kernels there may contract into FMA. In fuzz builds
# they are compiled plain: clang needs many minutes for unrolled tiles with sanitizers in them, and
# what a hostile file reaches first are the loader, the passes and the planner.
function(mrt_apply_isa_flags)
  set(plain "")
  if(MRT_FUZZ)
    set(plain -fno-sanitize=all -fno-sanitize=fuzzer-no-link)
  endif()
  foreach(isa ${MRT_ISA_NAMES})
    set(sources ${ARGN})
    list(FILTER sources INCLUDE REGEX "_${isa}\\.c$")
    if(NOT sources)
      continue()
    endif()
    if(MRT_X86_64)
      set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS
                                                        "${MRT_ISA_${isa}};-ffp-contract=fast;${plain}")
    else()
      set_source_files_properties(${sources} PROPERTIES HEADER_FILE_ONLY ON)
    endif()
  endforeach()
endfunction()

# Sorts sources by instruction set, the software models of tiles last. The linker keeps this order,
# so that the pages of code which a CPU runs lie together: Linux maps 64 KiB around a fault, and what
# other instruction sets have there would be counted too.
function(mrt_order_by_isa variable)
  set(rest ${${variable}})
  set(ordered "")
  foreach(kind scalar ${MRT_ISA_NAMES} model)
    set(these ${rest})
    list(FILTER these INCLUDE REGEX "_${kind}\\.c$")
    list(FILTER rest EXCLUDE REGEX "_${kind}\\.c$")
    list(APPEND ordered ${these})
  endforeach()
  set(${variable} ${rest} ${ordered} PARENT_SCOPE)
endfunction()
