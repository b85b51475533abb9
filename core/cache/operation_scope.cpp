#include "core/cache/operation_scope.h"

namespace memstream {
namespace {

constinit thread_local const OperationMark* mark_of_thread = nullptr;

}  // namespace

bool OperationMark::is_set_by_this_thread() const noexcept {
  return is_set_.load(std::memory_order_relaxed) || mark_of_thread == this;
}

void OperationMark::set_among_threads() noexcept { mark_of_thread = this; }

void OperationMark::clear_among_threads() noexcept { mark_of_thread = nullptr; }

}  // namespace memstream
