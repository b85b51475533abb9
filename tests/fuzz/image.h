// A segment that is bytes of the fuzzer's choice: mapped twice, for writing and for reading only, between pages that
// nobody may touch.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "api/memstream.h"
#include "core/base/segment.h"

namespace memstream::fuzz {

inline constexpr const char* kImageName = "image";

// The one image of the program. Any access outside of it, and any write through a read-only attach, is a fault of the
// processor; a commit() of memory outside of it ends the program too.
class Image {
 public:
  static Image& instance();

  // Nothing but zeros, to be initialised by the next open.
  void clear(std::size_t size_bytes);
  // What its shards have not committed are holes then: nobody may touch them before commit() has given them memory.
  void load(const std::vector<std::byte>& bytes);
  bool has_hole_in(std::size_t offset_bytes, std::size_t size_bytes) const;
  void fill_holes(std::size_t offset_bytes, std::size_t size_bytes);
  // Whether commit() gives kNoMemory from now on.
  void refuse_commits(bool refuse) { refuses_ = refuse; }

  std::byte* data() const { return writable_; }
  const std::byte* read_only_data() const { return readable_; }
  std::size_t size_bytes() const { return size_bytes_; }
  bool refuses_commits() const { return refuses_; }

 private:
  Image();

  std::byte* writable_ = nullptr;
  std::byte* readable_ = nullptr;
  std::size_t size_bytes_ = 0;
  std::vector<bool> holes_;  // By page.
  bool refuses_ = false;
};

// Opens the image, whatever name is asked for. New ones get a hash seed that never changes, so that an input means the
// same in every run.
std::unique_ptr<SegmentBackend> make_image_backend();

// A handle of the C interface on the image; null if it was refused. Sets the backend.
class OpenImage {
 public:
  explicit OpenImage(unsigned flags, long timeout_ms, std::size_t size_bytes = 0, unsigned shards = 0);
  OpenImage(const OpenImage&) = delete;
  OpenImage& operator=(const OpenImage&) = delete;
  ~OpenImage() { memstream_close(cache_); }

  memstream_t* get() const { return cache_; }
  int status() const { return status_; }

 private:
  memstream_t* cache_ = nullptr;
  int status_ = 0;
};

}  // namespace memstream::fuzz
