// See image.h.
#include "tests/fuzz/image.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/base/process_marks.h"
#include "core/layout/geometry.h"
#include "core/layout/hash.h"
#include "core/layout/layout.h"
#include "tests/fuzz/backend_choice.h"
#include "tests/fuzz/must.h"

namespace memstream::fuzz {
namespace {

constexpr std::size_t kRoomBytes = std::size_t{2} << 20;
// A position has 32 bits and counts 16 bytes: whatever is read from the image, it leads no further than this.
constexpr std::size_t kGuardBefore = std::size_t{1} << 30;
constexpr std::size_t kGuardBehind = std::size_t{66} << 30;
constexpr std::size_t kSmallGuard = std::size_t{1} << 26;  // Where so much address space is not to be had.

constexpr std::uint64_t kHashSeed = 0x5eed'5eed'5eed'5eed;

// A mapping of the file that ends where the guard begins.
std::byte* map_guarded(int file, int protection) {
  for (const std::size_t behind : {kGuardBehind, kSmallGuard}) {
    const std::size_t before = behind == kGuardBehind ? kGuardBefore : kSmallGuard;
    void* reserved =
        ::mmap(nullptr, before + kRoomBytes + behind, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) continue;
    void* place = static_cast<std::byte*>(reserved) + before;
    void* mapped = ::mmap(place, kRoomBytes, protection, MAP_SHARED | MAP_FIXED, file, 0);
    MUST(mapped == place, "the image cannot be mapped");
    return static_cast<std::byte*>(mapped);
  }
  unmet(__FILE__, __LINE__, "mmap", "no address space for the image");
}

class ImageSegment final : public Segment {
 public:
  explicit ImageSegment(Access access) : access_(access) {}

  std::byte* data() const noexcept override {
    const Image& image = Image::instance();
    return access_ == Access::kReadWrite ? image.data() : const_cast<std::byte*>(image.read_only_data());
  }
  std::size_t size_bytes() const noexcept override { return Image::instance().size_bytes(); }
  Access access() const noexcept override { return access_; }

  Status commit(std::size_t offset_bytes, std::size_t size_bytes) noexcept override {
    const Image& image = Image::instance();
    MUST(access_ == Access::kReadWrite, "a read-only attach asks for memory");
    MUST(offset_bytes <= image.size_bytes() && size_bytes <= image.size_bytes() - offset_bytes,
         "memory outside of the segment is asked for");
    if (image.refuses_commits()) return fail(Status::kNoMemory, "The image gives no memory.");
    Image::instance().fill_holes(offset_bytes, size_bytes);
    return Status::kOk;
  }
  Status prefault(std::size_t offset_bytes, std::size_t size_bytes) const noexcept override {
    const Image& image = Image::instance();
    MUST(offset_bytes <= image.size_bytes() && size_bytes <= image.size_bytes() - offset_bytes,
         "pages outside of the segment are asked for");
    return Status::kOk;
  }
  Status look_for_memory(std::size_t offset_bytes, std::size_t size_bytes) const noexcept override {
    const Image& image = Image::instance();
    MUST(offset_bytes <= image.size_bytes() && size_bytes <= image.size_bytes() - offset_bytes,
         "memory outside of the segment is asked about");
    return image.has_hole_in(offset_bytes, size_bytes) ? Status::kNoMemory : Status::kOk;
  }
  std::size_t kernel_page_size_bytes() const noexcept override { return kPageSize; }
  std::size_t available_bytes() const noexcept override { return size_bytes(); }
  void abandon() noexcept override {}

 private:
  Access access_;
};

// The semaphores of every image. This process has set the marks of those slots that its pid stands in.
class ImageMarks {
 public:
  static ImageMarks& instance() {
    static ImageMarks marks;
    return marks;
  }
  ImageMarks(const ImageMarks&) = delete;
  ImageMarks& operator=(const ImageMarks&) = delete;

  // Makes the marks fit to an image that was just loaded, or whose semaphores were just made.
  void adopt(std::byte* data) {
    auto* header = reinterpret_cast<SegmentHeader*>(data);
    SegmentIdentity& identity = header->identity;
    remove();
    std::atomic<std::int32_t> key{0};
    MUST(ProcessMarks::create(identity.process_slots, 0600, {}, &key, &set_) == Status::kOk, last_error());
    slots_ = identity.process_slots;
    identity.marks_id = set_.id;
    identity.marks_key = set_.key;
    identity.marks_created_s = set_.created_s;
    header->checksum = hash_bytes(&identity, sizeof identity);
    const ProcessMarks marks(set_, slots_);
    const auto* slots = reinterpret_cast<const ProcessSlot*>(data + identity.process_slots_offset);
    for (std::uint32_t slot = 0; slot < slots_; ++slot) {
      if (slots[slot].pid == static_cast<std::uint32_t>(::getpid())) static_cast<void>(marks.set(slot));
    }
  }

 private:
  ImageMarks() = default;
  ~ImageMarks() { remove(); }
  void remove() const { ProcessMarks(set_, slots_).remove(); }

  MarkSet set_;
  std::uint32_t slots_ = 0;
};

// What a creator leaves to chance, made the same for every run.
void make_constant(std::byte* data) {
  auto* header = reinterpret_cast<SegmentHeader*>(data);
  const SegmentIdentity& identity = header->identity;
  ProcessMarks({identity.marks_id, identity.marks_key, identity.marks_created_s}, identity.process_slots).remove();
  header->identity.hash_seed = kHashSeed;
  std::memset(header->identity.uuid, 7, sizeof header->identity.uuid);
  ImageMarks::instance().adopt(data);
}

class ImageBackend final : public SegmentBackend {
 public:
  const char* name() const noexcept override { return "image"; }

  Status open(const SegmentSpec& spec, SegmentInitializer& initializer, std::unique_ptr<Segment>* segment) override {
    auto opened = std::make_unique<ImageSegment>(Access::kReadWrite);
    if (initializer.state_of(opened->data()) == SegmentState::kBlank) {
      Image::instance().clear(spec.size_bytes);
      if (const Status status = initializer.initialize(*opened); status != Status::kOk) return status;
      make_constant(opened->data());
    }
    *segment = std::move(opened);
    return Status::kOk;
  }

  Status attach(const SegmentSpec& /*spec*/, Access access, SegmentInitializer& /*initializer*/,
                std::unique_ptr<Segment>* segment) override {
    *segment = std::make_unique<ImageSegment>(access);
    return Status::kOk;
  }

  Status remove(const SegmentSpec& /*spec*/, SegmentInitializer& /*initializer*/, const Segment* /*only*/,
                const std::function<void(std::byte*)>& before_removal) override {
    before_removal(Image::instance().data());
    return Status::kOk;
  }

  Status replace(const SegmentSpec& /*spec*/, SegmentInitializer& /*initializer*/, const Segment& /*current*/,
                 const std::function<Status(Segment& successor)>& /*fill*/) override {
    return fail(Status::kOsError, "There is one image only.");
  }

  Status list(SegmentInitializer& /*initializer*/, std::vector<SegmentInfo>* segments) override {
    segments->clear();
    return Status::kOk;
  }
};

}  // namespace

Image& Image::instance() {
  static Image& image = *new Image;  // Never destroyed: the scribbling thread ends with the program.
  return image;
}

Image::Image() {
  const int file = ::memfd_create("memstream-fuzz", MFD_CLOEXEC);
  MUST(file >= 0 && ::ftruncate(file, kRoomBytes) == 0, "no memory for the image");
  writable_ = map_guarded(file, PROT_READ | PROT_WRITE);
  readable_ = map_guarded(file, PROT_READ);
  ::close(file);
  holes_.resize(kRoomBytes / kPageSize);
  size_bytes_ = kMinSegmentSize;
}

void Image::clear(std::size_t size_bytes) {
  MUST(size_bytes <= kRoomBytes, "the image is too large");
  fill_holes(0, kRoomBytes);
  size_bytes_ = size_bytes;
  std::memset(writable_, 0, kRoomBytes);
}

void Image::load(const std::vector<std::byte>& bytes) {
  MUST(bytes.size() <= kRoomBytes, "the image is too large");
  fill_holes(0, kRoomBytes);
  size_bytes_ = bytes.size();
  std::memcpy(writable_, bytes.data(), bytes.size());
  ImageMarks::instance().adopt(writable_);
  const auto* header = reinterpret_cast<const SegmentHeader*>(writable_);
  const Geometry geometry = geometry_of(header->identity);
  const auto make_hole = [&](std::uint64_t begin, std::uint64_t end) {
    if (begin >= end) return;
    std::fill(holes_.begin() + static_cast<std::ptrdiff_t>(begin / kPageSize),
              holes_.begin() + static_cast<std::ptrdiff_t>(end / kPageSize), true);
    for (std::byte* mapping : {writable_, readable_}) ::mprotect(mapping + begin, end - begin, PROT_NONE);
  };
  make_hole(geometry.areas[kPinChunkArea].offset + header->pin_chunks_in_use * sizeof(PinChunk),
            geometry.areas[kPinChunkArea].offset + geometry.areas[kPinChunkArea].size_bytes);
  for (std::uint32_t shard = 0; shard < geometry.shards; ++shard) {
    const std::uint64_t offset = geometry.shard_offset(shard);
    const ShardSpace& space = reinterpret_cast<const ShardHeader*>(writable_ + offset)->space;
    make_hole(offset + page_ceil(space.table_committed), offset + page_floor(space.heap_committed));
  }
}

bool Image::has_hole_in(std::size_t offset_bytes, std::size_t size_bytes) const {
  for (std::size_t page = offset_bytes / kPageSize; page * kPageSize < offset_bytes + size_bytes; ++page) {
    if (page < holes_.size() && holes_[page]) return true;
  }
  return false;
}

void Image::fill_holes(std::size_t offset_bytes, std::size_t size_bytes) {
  for (std::size_t page = offset_bytes / kPageSize; page * kPageSize < offset_bytes + size_bytes; ++page) {
    if (!holes_[page]) continue;
    holes_[page] = false;
    ::mprotect(writable_ + page * kPageSize, kPageSize, PROT_READ | PROT_WRITE);
    ::mprotect(readable_ + page * kPageSize, kPageSize, PROT_READ);
  }
}

std::unique_ptr<SegmentBackend> make_image_backend() { return std::make_unique<ImageBackend>(); }

OpenImage::OpenImage(unsigned flags, long timeout_ms, std::size_t size_bytes, unsigned shards) {
  use_backend(make_image_backend);
  memstream_options_t options;
  memstream_options_init(&options);
  options.name = kImageName;
  options.size_bytes = size_bytes;
  options.shards = shards;
  options.timeout_ms = timeout_ms;
  options.flags = flags;
  status_ = memstream_open(&options, &cache_);
}

}  // namespace memstream::fuzz
