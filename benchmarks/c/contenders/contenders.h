// The contenders by name; each lives in a file of its own.
#pragma once

#include "benchmarks/c/contender.h"

namespace memstream::bench {

Contender limit();             // What the machine allows, no locks at all: the denominator of every ratio.
Contender fenced();            // The same with a fence before each operation.
Contender seqlock();           // The same with a sequence counter in each entry: no torn values.
Contender limit_of_batches();  // The limit for sixteen keys in a call: all lines are requested first.
Contender classic();           // A table of three steps behind one process-shared rwlock.
Contender classic_unlocked();  // The same table without its lock.
Contender memstream_posix();   // libcache.so through api/memstream.h.
Contender memstream_sysv();
Contender memstream_posix_cache();  // The same through api/cache.h.
Contender memstream_sysv_cache();
Contender memstream_views();       // The same, reading in place.
Contender memstream_batches();     // The same, sixteen keys in a call.
Contender memstream_posix_huge();  // The same in huge pages, where the machine gives them.
Contender memstream_sysv_huge();
// Whether it does, for a segment of that backend.
bool has_huge_pages(const char* backend);
Contender boost_interprocess();  // Managed shared memory, unordered map, one lock.
Contender lmdb();                // Files on tmpfs.
Contender tdb();
Contender redis();  // Servers behind Unix sockets; "pipelined": sixteen requests at a time.
Contender redis_pipelined();
Contender memcached();
Contender memcached_pipelined();

}  // namespace memstream::bench
