# Makes libmemstream.a of the library's objects: linked into one, in which only the functions of the C interface can be
# seen from outside. Run with CXX, OBJCOPY, AR, OUTPUT and OBJECTS, a
# file that lists them.
set(whole ${OUTPUT}.o)
# Groups of sections that other objects of a program may have too become plain sections: none of ours is dropped then.
execute_process(
  COMMAND ${CXX} -nostdlib -r -Wl,--force-group-allocation -fuse-ld=bfd -o ${whole} @${OBJECTS}
  COMMAND_ERROR_IS_FATAL ANY)
# Unique symbols can only be hidden once they are weak.
execute_process(COMMAND ${OBJCOPY} --wildcard --weaken-symbol=_Z* ${whole} COMMAND_ERROR_IS_FATAL ANY)
execute_process(
  COMMAND ${OBJCOPY} --strip-debug --wildcard --keep-global-symbol=cache_* --keep-global-symbol=memstream_* ${whole}
  COMMAND_ERROR_IS_FATAL ANY)
file(REMOVE ${OUTPUT})
execute_process(COMMAND ${AR} rcsD ${OUTPUT} ${whole} COMMAND_ERROR_IS_FATAL ANY)
file(REMOVE ${whole})
