// The same as read_image while another thread writes into the image: nothing that is read once may be read a second
// time and believed.
#include <atomic>
#include <random>
#include <thread>

#include "tests/fuzz/battery.h"
#include "tests/fuzz/image.h"
#include "tests/fuzz/records.h"
#include "tests/fuzz/targets.h"

namespace memstream::fuzz {
namespace {

// A thread that makes the changes of a script over and over, each time with another value now and then, between begin()
// and end(). It lives as long as the program.
class Scribbler {
 public:
  static Scribbler& instance() {
    static Scribbler& scribbler = *new Scribbler;
    return scribbler;
  }

  // Returns at once; the thread comes when the system lets it.
  void begin(const Script& script) {
    script_ = &script;
    rounds_.store(0, std::memory_order_relaxed);
    wanted_.store(true, std::memory_order_seq_cst);
    wanted_.notify_one();
  }
  // Returns when the thread is out of the script. It says that it is at work before it looks whether it is wanted, so
  // that one of the two sees the other.
  void end() {
    wanted_.store(false, std::memory_order_seq_cst);
    while (at_work_.load(std::memory_order_seq_cst)) std::this_thread::yield();
  }
  std::uint64_t rounds() const { return rounds_.load(std::memory_order_relaxed); }

 private:
  Scribbler() {
    std::thread([this] { run(); }).detach();
  }

  void run() {
    for (;;) {
      wanted_.wait(false, std::memory_order_seq_cst);
      at_work_.store(true, std::memory_order_seq_cst);
      while (wanted_.load(std::memory_order_seq_cst)) scribble();
      at_work_.store(false, std::memory_order_seq_cst);
    }
  }

  void scribble() {
    std::byte* image = Image::instance().data();
    for (Record record : script_->records) {
      if (random_() % 4 == 0) record.value = random_() | std::uint64_t{random_()} << 31;
      if (random_() % 8 == 0) record.index = static_cast<std::uint16_t>(random_());
      if (const auto change = locate(record, *script_->scene, image, Protect::kNothing)) apply(*change, image);
    }
    rounds_.fetch_add(1, std::memory_order_relaxed);
  }

  const Script* script_ = nullptr;
  std::atomic<bool> wanted_{false};
  std::atomic<bool> at_work_{false};
  std::atomic<std::uint64_t> rounds_{0};
  std::minstd_rand random_{1};
};

}  // namespace

void run_read_scribbled(const std::uint8_t* data, std::size_t size_bytes) {
  const Script script = parse_script(data, size_bytes);
  Image::instance().load(script.scene->bytes);
  const OpenImage cache(MEMSTREAM_OPEN_READ_ONLY, 0);
  if (cache.get() == nullptr) return;
  Reader reader(cache.get(), *script.scene);
  Scribbler& scribbler = Scribbler::instance();
  scribbler.begin(script);
  for (const Record& record : script.records) {
    if (record.is_call()) reader.call(record);
  }
  // Until the image has been written through a few times during the calls: on one processor the threads take turns.
  for (int passes = 0; passes < 3 || (passes < 20 && scribbler.rounds() < 8); ++passes) {
    reader.everything(4);
    const OpenImage another(MEMSTREAM_OPEN_READ_ONLY, 0);  // Its header may be anything by now.
    if (scribbler.rounds() == 0) std::this_thread::yield();
  }
  scribbler.end();
}

void seed_read_scribbled(const SeedSink& sink) { seed_read_image(sink); }

}  // namespace memstream::fuzz
