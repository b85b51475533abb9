#include "core/shard/pin_places.h"

namespace memstream {
namespace {

// In an owner word: its process is wiping the chunk, and has no pin there yet.
constexpr std::uint64_t kIsBeingWiped = std::uint64_t{1} << 63;

constexpr std::uint32_t place_number(std::uint32_t chunk, std::uint32_t place) noexcept {
  return kPinsPerProcess + chunk * kPinsPerChunk + place;
}

}  // namespace

PinPlaces::PinPlaces(Segment* segment, const Geometry& geometry) noexcept
    : segment_(segment),
      header_(reinterpret_cast<SegmentHeader*>(segment->data())),
      slots_(reinterpret_cast<ProcessSlot*>(segment->data() + geometry.process_slots_offset)),
      chunks_(reinterpret_cast<PinChunk*>(segment->data() + geometry.areas[kPinChunkArea].offset)),
      slot_count_(geometry.process_slots),
      chunk_count_(geometry.pin_chunks()),
      chunks_offset_(geometry.areas[kPinChunkArea].offset) {}

// A number that leads to where no memory is counts no more than what is known.
std::uint32_t PinPlaces::look_for_memory_of(std::uint32_t chunks) const noexcept {
  chunks = std::min(chunks, chunk_count_);
  const std::uint32_t known = known_chunks_.chunks.load(std::memory_order_relaxed);
  if (chunks <= known) return known;
  const std::uint64_t begin = chunks_offset_ + std::uint64_t{known} * sizeof(PinChunk);
  const std::uint64_t size = std::uint64_t{chunks - known} * sizeof(PinChunk);
  if (segment_->look_for_memory(begin, size) == Status::kNoMemory) return known;
  known_chunks_.chunks.store(chunks, std::memory_order_relaxed);
  return chunks;
}

const ProcessSlot* PinPlaces::owner_of(std::uint64_t owner) const noexcept {
  const std::uint64_t index = lease_owner_slot(owner);
  if (index >= slot_count_) return nullptr;
  const ProcessSlot& slot = slots_[index];
  const bool is_there = slot.pid.load(std::memory_order_acquire) != 0 &&
                        slot.generation.load(std::memory_order_acquire) == lease_owner_generation(owner);
  return is_there ? &slot : nullptr;
}

PinNumber PinPlaces::claim(ProcessSlot* slot, std::uint64_t word) const noexcept {
  const std::uint64_t own = owner_word(slot);
  const std::uint32_t in_use = chunks_in_use();
  const std::uint32_t first = slot->pin_chunk.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < in_use; ++i) {
    const std::uint32_t chunk = (first % in_use + i) % in_use;
    if (chunks_[chunk].owner.load(std::memory_order_acquire) != own) continue;
    const PinNumber number = claim_in(chunk, word);
    if (number == kNone) continue;
    slot->pin_chunk.store(chunk, std::memory_order_relaxed);
    return number;
  }
  for (;;) {  // Other threads may fill a chunk as fast as it is claimed.
    const std::uint32_t chunk = claim_chunk(own);
    if (chunk == kNone) return kNone;
    const PinNumber number = claim_in(chunk, word);
    if (number == kNone) continue;
    slot->pin_chunk.store(chunk, std::memory_order_relaxed);
    return number;
  }
}

PinNumber PinPlaces::claim_in(std::uint32_t chunk, std::uint64_t word) const noexcept {
  PinChunk& claimed = chunks_[chunk];
  if (claimed.taken.load(std::memory_order_relaxed) >= kPinsPerChunk) return kNone;
  // Before the pin: a search for pins passes over a chunk without any.
  claimed.taken.fetch_add(1, std::memory_order_relaxed);
  for (std::uint32_t place = 0; place < kPinsPerChunk; ++place) {
    std::uint64_t free = 0;
    if (claimed.pins[place].load(std::memory_order_relaxed) == 0 &&
        claimed.pins[place].compare_exchange_strong(free, word, std::memory_order_acq_rel)) {
      return PinNumber{place_number(chunk, place)};
    }
  }
  claimed.taken.fetch_sub(1, std::memory_order_relaxed);
  return kNone;
}

std::uint32_t PinPlaces::claim_chunk(std::uint64_t own) const noexcept {
  for (std::uint32_t i = 0; i < chunk_count_; ++i) {
    PinChunk& chunk = chunks_[i];
    if (i >= chunks_in_use() && segment_->commit(chunks_offset_ + i * sizeof chunk, sizeof chunk) != Status::kOk) break;
    std::uint64_t owner = chunk.owner.load(std::memory_order_acquire);
    if (owner_of(owner & ~kIsBeingWiped) != nullptr) continue;
    if (!chunk.owner.compare_exchange_strong(owner, own | kIsBeingWiped, std::memory_order_acq_rel)) continue;
    for (std::atomic<std::uint64_t>& pin : chunk.pins) pin.store(0, std::memory_order_relaxed);
    chunk.taken.store(0, std::memory_order_relaxed);
    // Before the first pin. It never falls: what lies below has memory.
    std::uint32_t in_use = header_->pin_chunks_in_use.load(std::memory_order_relaxed);
    while (in_use <= i && !header_->pin_chunks_in_use.compare_exchange_weak(in_use, i + 1, std::memory_order_relaxed)) {
    }
    chunk.owner.store(own, std::memory_order_release);
    return i;
  }
  return kNone;
}

std::atomic<std::uint64_t>* PinPlaces::find(const ProcessSlot* slot, PinNumber number) const noexcept {
  if (number < kPinsPerProcess) return nullptr;
  const std::uint32_t chunk = (number - kPinsPerProcess) / kPinsPerChunk;
  if (chunk >= chunks_in_use() || chunks_[chunk].owner.load(std::memory_order_acquire) != owner_word(slot)) {
    return nullptr;
  }
  return &chunks_[chunk].pins[(number - kPinsPerProcess) % kPinsPerChunk];
}

void PinPlaces::count_out(PinNumber number) const noexcept {
  chunks_[(number - kPinsPerProcess) / kPinsPerChunk].taken.fetch_sub(1, std::memory_order_relaxed);
}

std::uint32_t PinPlaces::count(const ProcessSlot& slot) const noexcept {
  std::uint32_t pins = 0;
  const auto add = [&](const auto& places) {
    for (const std::atomic<std::uint64_t>& pin : places) pins += pin.load(std::memory_order_relaxed) != 0 ? 1 : 0;
  };
  add(slot.pins);
  for (std::uint32_t i = 0; i < chunks_in_use(); ++i) {
    if (owner_of(chunks_[i].owner.load(std::memory_order_acquire)) == &slot) add(chunks_[i].pins);
  }
  return pins;
}

bool PinPlaces::chunks_hold(std::uint64_t offset_bytes) const noexcept {
  for (std::uint32_t i = 0; i < chunks_in_use(); ++i) {
    const PinChunk& chunk = chunks_[i];
    if (chunk.taken.load(std::memory_order_relaxed) == 0) continue;
    if (owner_of(chunk.owner.load(std::memory_order_acquire)) == nullptr) continue;
    for (const std::atomic<std::uint64_t>& pin : chunk.pins) {
      if ((pin.load(std::memory_order_acquire) & ~kPinIsTentative) == offset_bytes) return true;
    }
  }
  return false;
}

}  // namespace memstream
