// Products of small bfloat16 matrices that are packed by hand, by libtorch's micro-kernel (oneDNN's), which it has since 2.5.
#pragma once

#include "bridge.h"
#include "kernels.h"

#include <ATen/ATen.h>

#if TESSERA_TORCH_AT_LEAST(2, 5)
#define TESSERA_HALF_PRODUCTS
#include <ATen/native/CPUBlas.h>
#endif

namespace tessera {

using kernels::Bf16;

inline Bf16* bits(const at::Tensor& t) { return static_cast<Bf16*>(t.data_ptr()); }

inline int64_t rounded(int64_t size, int64_t to) { return (size + to - 1) / to * to; }

#ifdef TESSERA_HALF_PRODUCTS
/** A thread that has multiplied gives the matrix unit back. */
inline void releaseProducts() { at::native::cpublas::brgemm_release(); }

// c [m][n] (+)= a [m][k] b, with b as pairs of rows [k / 2][n].
inline void multiply(int64_t m, int64_t n, int64_t k, const Bf16* a, int64_t strideA, const uint32_t* b, int64_t strideB, float* c, int64_t strideC, bool add) {
    at::native::cpublas::brgemm(m, n, k, strideA, strideB, strideC, add, reinterpret_cast<const at::BFloat16*>(a), reinterpret_cast<const at::BFloat16*>(b), c, true);
}
#else
// Never called: hasHalfProducts() is false.
inline void releaseProducts() {}
inline void multiply(int64_t, int64_t, int64_t, const Bf16*, int64_t, const uint32_t*, int64_t, float*, int64_t, bool) {}
#endif

/** Whether libtorch's micro-kernel multiplies whole tiles (AMX). */
inline bool hasTiles() {
#ifdef TESSERA_HALF_PRODUCTS
    static const bool has = at::native::cpublas::could_pack(at::kBFloat16);
    return has;
#else
    return false;
#endif
}

/**
 * Whether there is a micro-kernel for pairs of rows. libtorch's has them on AMX and on AVX-512 with bfloat16, tells of the first only, and where
 * a processor is held back by ONEDNN_MAX_CPU_ISA would take the pairs for rows, so it is tried: [1 2] [3; 4] = 11.
 */
inline bool hasHalfProducts() {
    static const bool has = [] {
#ifdef TESSERA_HALF_PRODUCTS
        if (hasTiles()) return true;
        if (!kernels::table().multiplyPairs) return false;
        constexpr int64_t size = 32;
        const at::Tensor a = at::zeros({size, size}, at::kBFloat16), b = at::zeros_like(a), c = at::zeros({size, size}, at::kFloat);
        const Bf16 one = 0x3f80, two = 0x4000, three = 0x4040, four = 0x4080;
        bits(a)[0] = one;
        bits(a)[1] = two;
        bits(b)[0] = three;
        bits(b)[1] = four;
        try {
            multiply(size, size, size, bits(a), size, reinterpret_cast<const uint32_t*>(b.data_ptr()), size, static_cast<float*>(c.data_ptr()), size, false);
        } catch (const c10::Error&) {
            return false;  // no micro-kernel at all
        }
        releaseProducts();
        return static_cast<const float*>(c.data_ptr())[0] == 11.0f;
#else
        return false;
#endif
    }();
    return has;
}

// One thread's memory for one head, cut from one piece.
class Scratch {
public:
    explicit Scratch(int64_t bytes) : memory_(at::empty({bytes + 64 * 32}, at::kByte)), next_(static_cast<char*>(memory_.data_ptr())) {
        next_ += (64 - reinterpret_cast<uintptr_t>(next_) % 64) % 64;
    }
    template <class T>
    T* take(int64_t count) {
        T* here = reinterpret_cast<T*>(next_);
        next_ += rounded(count * static_cast<int64_t>(sizeof(T)), 64);
        return here;
    }

private:
    at::Tensor memory_;
    char* next_;
};

}  // namespace tessera
