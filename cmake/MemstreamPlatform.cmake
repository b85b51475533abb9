# Ends the configuration with one sentence where MemStream does not run: 32 bit, musl, other systems.
if(NOT MEMSTREAM_RUNS_HERE)
  # Nothing is linked: the libraries of another system need not be here.
  set(kept_type ${CMAKE_TRY_COMPILE_TARGET_TYPE})
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  try_compile(MEMSTREAM_RUNS_HERE ${PROJECT_BINARY_DIR}/platform ${CMAKE_CURRENT_LIST_DIR}/platform.c
    CMAKE_FLAGS -DINCLUDE_DIRECTORIES=${PROJECT_SOURCE_DIR}
    OUTPUT_VARIABLE platform_output)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE ${kept_type})
  if(NOT MEMSTREAM_RUNS_HERE)
    if(platform_output MATCHES "MemStream supports [^\"\n]*")
      message(FATAL_ERROR "${CMAKE_MATCH_0}")
    endif()
    message(FATAL_ERROR "Invalid C compiler '${CMAKE_C_COMPILER}': expected one that works.\n${platform_output}")
  endif()
endif()
