#include "core/operation_scope.h"

namespace memstream {

constinit thread_local const void* OperationScope::current_ = nullptr;

}  // namespace memstream
