// Opens a segment and verifies every invariant.
#include "tests/torture/commands.h"

namespace memstream::torture {

void run_check(const CommonOptions& common, const std::string& name, Report& report) {
  for (const std::string& backend : common.backends) {
    Section section(backend, "check " + name);
    try {
      Place place = common.place(backend, "check");
      place.name = name;
      place.flags = MEMSTREAM_OPEN_EXISTING;
      CacheUnderTest cache(place);
      cache.check();
      section.set("entries", cache.statistics().entries);
    } catch (const Finding& finding) {
      section.find(finding.what());
    }
    report.add(section);
  }
}

}  // namespace memstream::torture
