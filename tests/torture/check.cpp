// Opens a segment and verifies every invariant.
#include <stdexcept>

#include "tests/torture/commands.h"

namespace memstream::torture {
namespace {

bool is_there(const Place& place) {
  const memstream_options_t options = options_for(place);
  memstream_t* cache = nullptr;
  const int status = memstream_open(&options, &cache);
  memstream_close(cache);
  return status != CACHE_NO_SEGMENT;
}

}  // namespace

void run_check(const CommonOptions& common, const std::string& name, Report& report) {
  std::size_t missing = 0;
  for (const std::string& backend : common.backends) {
    Section section(backend, "check " + name);
    try {
      Place place = common.place(backend, "check");
      place.name = name;
      place.flags = MEMSTREAM_OPEN_EXISTING;
      if (is_there(place)) {
        CacheUnderTest cache(place);
        cache.check();
        section.set("entries", cache.statistics().entries);
      } else {
        section.skip("there is none");
        ++missing;
      }
    } catch (const Finding& finding) {
      section.find(finding.what());
    }
    report.add(section);
  }
  if (missing == common.backends.size()) throw std::runtime_error("there is no segment '" + name + "': see --name");
}

}  // namespace memstream::torture
