#include "benchmarks/c/contenders/contenders.h"

namespace memstream::bench {

std::vector<Contender> all_contenders() {
  std::vector<Contender> contenders = {limit(),
                                       fenced(),
                                       seqlock(),
                                       limit_of_batches(),
                                       memstream_posix(),
                                       memstream_sysv(),
                                       memstream_posix_cache(),
                                       memstream_sysv_cache(),
                                       memstream_views(),
                                       memstream_batches(),
                                       classic(),
                                       classic_unlocked(),
                                       boost_interprocess(),
                                       lmdb(),
                                       tdb(),
                                       redis(),
                                       redis_pipelined(),
                                       memcached(),
                                       memcached_pipelined()};
  if (has_huge_pages("posix")) contenders.push_back(memstream_posix_huge());
  if (has_huge_pages("sysv")) contenders.push_back(memstream_sysv_huge());
  return contenders;
}

}  // namespace memstream::bench
