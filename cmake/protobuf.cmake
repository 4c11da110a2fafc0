# protobuf-c, from the system: the compiler protoc-c, the header and the shared library. (Debian's
# static library is not position-independent: it cannot go into a Python module.)
find_program(MRT_PROTOC_C protoc-c)
find_path(MRT_PROTOBUF_C_INCLUDE protobuf-c/protobuf-c.h)
find_library(MRT_PROTOBUF_C_LIBRARY NAMES libprotobuf-c.so)
if(NOT MRT_PROTOC_C OR NOT MRT_PROTOBUF_C_INCLUDE OR NOT MRT_PROTOBUF_C_LIBRARY)
  message(FATAL_ERROR "protobuf-c is missing. Install the packages protobuf-c-compiler and "
                      "libprotobuf-c-dev (Debian's names): ./dev setup does, or "
                      "apt-get install protobuf-c-compiler libprotobuf-c-dev")
endif()
