// What the operators of the namespace "tessera" share: what they take, how they go over rows, and how they are registered. They do in one pass over
// memory what libtorch does in several, on the CPU, in float32 and bfloat16, and are registered with the dispatcher like libtorch's own.
#pragma once

#include "bridge.h"
#include "kernels.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/library.h>

#include <algorithm>
#include <utility>

namespace tessera {

inline at::Tensor contiguous(const at::Tensor& t) { return t.defined() ? t.contiguous() : t; }
inline at::Tensor orUndefined(const Optional<at::Tensor>& t) { return t.has_value() ? *t : at::Tensor(); }

inline int typeOf(const at::Tensor& t) { return t.scalar_type() == at::kBFloat16 ? kernels::kHalf : kernels::kFloat; }

inline void* data(const at::Tensor& t) { return t.defined() ? t.data_ptr() : nullptr; }
inline float* floats(const at::Tensor& t) { return static_cast<float*>(data(t)); }

inline bool isValue(const at::Tensor& t) {
    return t.device().is_cpu() && t.layout() == at::kStrided && (t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16);
}

inline bool isFloat(const at::Tensor& t) { return isValue(t) && t.scalar_type() == at::kFloat; }

inline void expectValues(const char* op, const char* name, const at::Tensor& t) {
    TORCH_CHECK(isValue(t), op, " expects ", name, " as a float32 or bfloat16 tensor on the CPU, got ", t.scalar_type(), " on ", t.device());
}

inline void expectVector(const char* op, const char* name, const at::Tensor& t, int64_t size) {
    TORCH_CHECK(!t.defined() || (isFloat(t) && t.dim() == 1 && t.size(0) == size), op,
                " expects ", name, " as a float32 vector of ", size, " on the CPU, got ", t.defined() ? t.sizes() : at::IntArrayRef(), " of ",
                t.scalar_type());
}

// Rows in pieces that are worth a thread.
inline constexpr int64_t kNumbersOfPiece = 1 << 14;

inline int64_t rowsOfPiece(int64_t width) { return std::max<int64_t>(1, kNumbersOfPiece / std::max<int64_t>(1, width)); }

// How many rows of its last dimension a tensor has: none where that has no numbers.
inline int64_t rowsOf(const at::Tensor& t) { return t.size(-1) == 0 ? 0 : t.numel() / t.size(-1); }

template <class Run>
void overRows(int64_t rows, int64_t width, Run run) {
    at::parallel_for(0, rows, rowsOfPiece(width), run);
}

// [threads, parts, width] zeros, in which each thread adds up what all rows share. By hand: libtorch's sum over the threads takes longer to prepare
// than to add.
struct Columns {
    at::Tensor all;
    int64_t parts, width;
    Columns(int64_t parts, int64_t width) : all(at::empty({at::get_num_threads(), parts, width}, at::kFloat)), parts(parts), width(width) {
        std::fill_n(floats(all), all.numel(), 0.0f);
    }
    float* of(int64_t part) const { return floats(all) + (at::get_thread_num() * parts + part) * width; }
    // Of all threads, by part.
    std::vector<at::Tensor> sum() const {
        float* total = floats(all);
        const int64_t size = parts * width;
        for (int64_t thread = 1; thread < all.size(0); ++thread)
            for (int64_t i = 0; i < size; ++i) total[i] += total[thread * size + i];
        return all[0].unbind(0);
    }
};

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
