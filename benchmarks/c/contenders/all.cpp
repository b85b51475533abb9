#include "benchmarks/c/contenders/contenders.h"

namespace memstream::bench {

std::vector<Contender> all_contenders() {
  return {limit(),   memstream_posix(),    memstream_sysv(), memstream_views(),
          classic(), boost_interprocess(), lmdb(),           tdb(),
          redis(),   redis_pipelined(),    memcached(),      memcached_pipelined()};
}

}  // namespace memstream::bench
