// A read-only attach to an image with a sound header and anything behind it: every call comes back with some answer.
#include <random>

#include "tests/fuzz/battery.h"
#include "tests/fuzz/image.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/records.h"
#include "tests/fuzz/targets.h"

namespace memstream::fuzz {

void run_read_image(const std::uint8_t* data, std::size_t size_bytes) {
  const Script script = parse_script(data, size_bytes);
  const Scene& scene = *script.scene;
  Image& image = Image::instance();
  image.load(scene.bytes);
  const OpenImage cache(MEMSTREAM_OPEN_READ_ONLY, 0);
  MUST(cache.get() != nullptr, cache_last_error());
  Reader reader(cache.get(), scene);
  for (const Record& record : script.records) {
    if (record.is_call()) {
      reader.call(record);
    } else if (const auto change = locate(record, scene, image.data(), Protect::kIdentity)) {
      apply(*change, image.data());
    }
  }
  reader.everything(8);
}

// Scenes as they are, and each with some damage to every structure.
void seed_read_image(const SeedSink& sink) {
  std::minstd_rand random(1);
  for (std::size_t i = 0; i < scenes().size(); ++i) {
    const std::string name = std::to_string(i);
    sink("scene-" + name, make_input(i, 0, {}));
    for (int variant = 0; variant < 4; ++variant) {
      sink("damaged-" + name + "-" + std::to_string(variant), make_input(i, 0, sample_changes(random, 12)));
    }
  }
}

}  // namespace memstream::fuzz
