# What the build writes into <build>/gen, and never into the tree:
#   gen/op_table.def, cpu_kernels.def, passes.def, cpu_fusions.def, environment.def   by tools/gen_registry.py
#   gen/NAME.pb-c.c, NAME.pb-c.h                                     by protoc-c, per .proto file
# Sets MRT_GEN_SOURCES (C to compile) and MRT_GEN_STAMPS (what must be made before any C is compiled).

set(mrt_gen "${PROJECT_BINARY_DIR}/gen")
file(MAKE_DIRECTORY "${mrt_gen}")

# ---- registries ----------------------------------------------------------------------------------
# The stamp is the output and the .def files are by-products: the generator leaves a file alone when
# its content is the same, and by-products are looked at again, so that nothing is rebuilt then.
file(GLOB_RECURSE mrt_scanned CONFIGURE_DEPENDS csrc/ops/*.c csrc/pass/*.c csrc/provider/*.c)
set(mrt_registry_stamp "${mrt_gen}/registry.stamp")
set(mrt_registry_files op_table.def cpu_kernels.def passes.def cpu_fusions.def environment.def)
list(TRANSFORM mrt_registry_files PREPEND "${mrt_gen}/")
# A removed source changes no file that is left: the list itself is an input.
string(REPLACE ";" "\n" mrt_scanned_text "${mrt_scanned}")
file(CONFIGURE OUTPUT "${mrt_gen}/registry.inputs" CONTENT "${mrt_scanned_text}\n" @ONLY)
add_custom_command(
  OUTPUT "${mrt_registry_stamp}"
  BYPRODUCTS ${mrt_registry_files}
  COMMAND "${Python_EXECUTABLE}" "${PROJECT_SOURCE_DIR}/tools/gen_registry.py"
          "${PROJECT_SOURCE_DIR}/csrc" "${mrt_gen}"
  COMMAND "${CMAKE_COMMAND}" -E touch "${mrt_registry_stamp}"
  DEPENDS ${mrt_scanned} "${mrt_gen}/registry.inputs" "${PROJECT_SOURCE_DIR}/tools/gen_registry.py"
  COMMENT "Collecting operators, kernels, fusions and passes"
  VERBATIM)
set(MRT_GEN_STAMPS "${mrt_registry_stamp}")
set(MRT_GEN_SOURCES)

# ---- messages ------------------------------------------------------------------------------------
file(GLOB mrt_protos CONFIGURE_DEPENDS csrc/load/*.proto)
foreach(proto ${mrt_protos})
  get_filename_component(name "${proto}" NAME_WE)
  set(made "${mrt_gen}/${name}.pb-c.c" "${mrt_gen}/${name}.pb-c.h")
  add_custom_command(
    OUTPUT ${made}
    COMMAND "${MRT_PROTOC_C}" "--proto_path=${PROJECT_SOURCE_DIR}/csrc/load" "--c_out=${mrt_gen}"
            "${proto}"
    DEPENDS "${proto}"
    COMMENT "protoc-c ${name}.proto"
    VERBATIM)
  set_source_files_properties(${made} PROPERTIES COMPILE_OPTIONS "-w") # not ours to mend
  list(APPEND MRT_GEN_SOURCES ${made})
endforeach()
