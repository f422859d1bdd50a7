// What the operators of the namespace "tessera" share: optional arguments, and how they are registered.
#pragma once

#include "bridge.h"

#include <c10/core/GradMode.h>
#include <torch/library.h>

#include <utility>

namespace tessera {

inline at::Tensor contiguous(const at::Tensor& t) { return t.defined() ? t.contiguous() : t; }
inline at::Tensor orUndefined(const Optional<at::Tensor>& t) { return t.has_value() ? *t : at::Tensor(); }

// There is no formula for the derivative of these derivatives, and one must not be made up from what runs inside.
inline void refuseSecondOrder(const char* op) {
    TORCH_CHECK(!c10::GradMode::is_enabled(), op, " has no second derivatives: turn fused operators off (TESSERA_FUSED=0)");
}

// `name` is that in `schema`. A second copy of the library in one process finds the operator registered, and uses the first one's.
template <class Function>
void registerOperator(const char* name, const char* schema, Function&& function) {
    if (c10::Dispatcher::singleton().findSchema({std::string("tessera::") + name, ""})) return;
    // Never destroyed: what it registers goes with it. One for each type of function is as good as one.
    static auto* library = new torch::Library(torch::Library::FRAGMENT, "tessera", kNullopt, __FILE__, __LINE__);
    library->def(schema, std::forward<Function>(function));
}

}  // namespace tessera
