// The loops of kernels_body.h for the instruction sets of x64, and the choice among them.
#include "kernels.h"

#include <cmath>
#include <numbers>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#endif

// Vectors wider than the registers of the set it is compiled for are passed in memory; nothing of this file is called from outside by vector.
#pragma GCC diagnostic ignored "-Wpsabi"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 says so, and the next, of its own intrinsics
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#define TESSERA_LAMBDA __attribute__((always_inline))

namespace tessera::kernels {

namespace plain {
#include "kernels_body.h"
}

// Clang does not know this pragma: there the compiler's own default is all.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TESSERA_SEVERAL_SETS

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define TESSERA_AVX2
namespace avx2 {
#include "kernels_body.h"
}
#undef TESSERA_AVX2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
// g++ 12 does not tell by its own macros what the pragma allows.
#define TESSERA_AVX512
namespace avx512 {
#include "kernels_body.h"
}
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,prefer-vector-width=512")
#define TESSERA_AVX512_BF16
namespace avx512bf16 {
#include "kernels_body.h"
}
#pragma GCC pop_options
#endif

namespace {

// Through four Chebyshev points of each part: a Newton polynomial, multiplied out.
template <class Function>
Cubics cubicsOf(Function f) {
    Cubics made;
    for (int n = 0; n < kCubics; ++n) {
        double at[4], divided[4], c[4] = {};
        for (int i = 0; i < 4; ++i) {
            at[i] = 0.5 * std::cos(std::numbers::pi * (2 * i + 1) / 8);
            divided[i] = f((n + at[i]) / kCubicsOfOne);
        }
        for (int order = 1; order < 4; ++order)
            for (int i = 3; i >= order; --i) divided[i] = (divided[i] - divided[i - 1]) / (at[i] - at[i - order]);
        for (int i = 3; i >= 0; --i) {
            for (int power = 3; power > 0; --power) c[power] = c[power - 1] - at[i] * c[power];
            c[0] = divided[i] - at[i] * c[0];
        }
        for (int power = 0; power < 4; ++power) made.coefficients[power][n] = static_cast<float>(c[power]);
    }
    return made;
}

double tailOf(double s) { return 0.5 * std::erfc(s / std::numbers::sqrt2); }

}  // namespace

const Cubics& geluBelow() {
    static const Cubics made = cubicsOf([](double s) { return s * tailOf(s); });
    return made;
}

const Cubics& geluSlopeBelow() {
    static const Cubics made = cubicsOf([](double s) { return tailOf(s) - s * std::exp(-0.5 * s * s) / std::sqrt(2 * std::numbers::pi); });
    return made;
}

const Table& table() {
    static const Table chosen = [] {
#ifdef TESSERA_SEVERAL_SETS
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            return __builtin_cpu_supports("avx512bf16") ? avx512bf16::made() : avx512::made();
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::made();
#endif
        return plain::made();
    }();
    return chosen;
}

}  // namespace tessera::kernels
