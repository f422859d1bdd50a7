// The loops of kernels.h, included once for each instruction set into a namespace of its own: therefore no guard and no #include.
// Vectors are the compiler's own (GCC and Clang), as wide as a register: of wider ones it makes comparisons and shuffles number by number.

#ifdef TESSERA_AVX2
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 16;
#endif
using F = float __attribute__((vector_size(4 * kLanes)));
using I = int32_t __attribute__((vector_size(4 * kLanes)));
using U = uint32_t __attribute__((vector_size(4 * kLanes)));
using H = uint16_t __attribute__((vector_size(2 * kLanes)));

#define TESSERA_INLINE inline __attribute__((always_inline))

TESSERA_INLINE F all(float x) { return F{} + x; }

TESSERA_INLINE F widen(H bits) {
#ifdef TESSERA_AVX512
    return (F)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)bits), 16);
#elif defined(TESSERA_AVX2)
    return (F)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)bits), 16);
#else
    return (F)(__builtin_convertvector(bits, U) << 16);
#endif
}

// Numbers below 2^16.
TESSERA_INLINE H shortened(U x) {
#ifdef TESSERA_AVX2
    return (H)_mm_packus_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
#else
    return __builtin_convertvector(x, H);
#endif
}

// To the nearest, ties to even; NaN stays one.
TESSERA_INLINE H narrow(F x) {
#ifdef TESSERA_AVX512_BF16
    return (H)_mm512_cvtneps_pbh((__m512)x);
#else
    const U bits = (U)x;
    const U rounded = bits + 0x7fff + ((bits >> 16) & 1);
    const U nan = (bits >> 16) | 0x40;
    return shortened(x == x ? rounded >> 16 : nan);
#endif
}

template <class V, class T>
TESSERA_INLINE V raw(const T* from) {
    V v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}
template <class V, class T>
TESSERA_INLINE V raw(const T* from, int64_t count) {
    V v = {};
    __builtin_memcpy(&v, from, static_cast<std::size_t>(count) * sizeof(T));
    return v;
}

TESSERA_INLINE F load(const float* from) { return raw<F>(from); }
TESSERA_INLINE F load(const Bf16* from) { return widen(raw<H>(from)); }
TESSERA_INLINE void store(float* to, F v) { __builtin_memcpy(to, &v, sizeof v); }
TESSERA_INLINE void store(Bf16* to, F v) {
    const H h = narrow(v);
    __builtin_memcpy(to, &h, sizeof h);
}

// The first `count` numbers, fewer than kLanes, and zeros.
#ifdef TESSERA_AVX512
TESSERA_INLINE __mmask16 firstLanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }
TESSERA_INLINE F load(const float* from, int64_t count) { return (F)_mm512_maskz_loadu_ps(firstLanes(count), from); }
TESSERA_INLINE F load(const Bf16* from, int64_t count) { return widen((H)_mm256_maskz_loadu_epi16(firstLanes(count), from)); }
TESSERA_INLINE void store(float* to, F v, int64_t count) { _mm512_mask_storeu_ps(to, firstLanes(count), (__m512)v); }
TESSERA_INLINE void store(Bf16* to, F v, int64_t count) { _mm256_mask_storeu_epi16(to, firstLanes(count), (__m256i)narrow(v)); }
#else
TESSERA_INLINE F load(const float* from, int64_t count) { return raw<F>(from, count); }
TESSERA_INLINE F load(const Bf16* from, int64_t count) { return widen(raw<H>(from, count)); }
TESSERA_INLINE void store(float* to, F v, int64_t count) { __builtin_memcpy(to, &v, static_cast<std::size_t>(count) * sizeof(float)); }
TESSERA_INLINE void store(Bf16* to, F v, int64_t count) {
    const H h = narrow(v);
    __builtin_memcpy(to, &h, static_cast<std::size_t>(count) * sizeof(Bf16));
}
#endif

// One number of all lanes, halves upon halves: one after another they would take longer than what is summed up in them.
template <class Combine>
TESSERA_INLINE float folded(F v, Combine combine) {
    float lanes[kLanes];
    store(lanes, v);
    for (int64_t half = kLanes / 2; half > 0; half /= 2)
        for (int64_t i = 0; i < half; ++i) lanes[i] = combine(lanes[i], lanes[i + half]);
    return lanes[0];
}
TESSERA_INLINE float total(F v) {
#ifdef TESSERA_AVX512
    return _mm512_reduce_add_ps((__m512)v);
#else
    return folded(v, [](float a, float b) TESSERA_LAMBDA { return a + b; });
#endif
}
TESSERA_INLINE float highestOf(F v) {
#ifdef TESSERA_AVX512
    return _mm512_reduce_max_ps((__m512)v);
#else
    return folded(v, [](float a, float b) TESSERA_LAMBDA { return b > a ? b : a; });
#endif
}

// Of the last of so many numbers, the lanes that are beyond them.
TESSERA_INLINE I lanesFrom(int64_t count) {
    I beyond;
    for (int i = 0; i < kLanes; ++i) beyond[i] = i < count ? 0 : -1;
    return beyond;
}
TESSERA_INLINE F without(I lanes, F v) { return lanes ? all(-__builtin_inff()) : v; }

// Calls use(i, lanes...) for blocks of kLanes columns, and once for what remains: `block` picks the whole or the counted load.
template <class Use>
TESSERA_INLINE void columns(int64_t width, Use use) {
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) use(i, [](auto* p) TESSERA_LAMBDA { return load(p); }, [](auto* p, F v) TESSERA_LAMBDA { store(p, v); });
    if (const int64_t rest = width - i)
        use(i, [rest](auto* p) TESSERA_LAMBDA { return load(p, rest); }, [rest](auto* p, F v) TESSERA_LAMBDA { store(p, v, rest); });
}

// 1 / x to about 1e-7 of itself.
TESSERA_INLINE F reciprocal(F x) {
#ifdef TESSERA_AVX512
    const F guess = (F)_mm512_rcp14_ps((__m512)x);
    return guess * (2.0f - x * guess);
#else
    return 1.0f / x;
#endif
}

// e^x for x <= 0, to about 1e-7 of itself (4e-6 where it is least), 0 below -87: 2^n times a polynomial fitted to 2^r on [-1/2, 1/2].
TESSERA_INLINE F exponential(F x) {
    constexpr float log2e = 1.44269504088896341f;
    // Below, the result would be denormal, which costs a hundred cycles.
    const auto tiny = x < -87.0f;
#ifdef TESSERA_AVX512
    x = (F)_mm512_max_ps((__m512)x, (__m512)all(-87.0f));
    const F n = (F)_mm512_roundscale_ps((__m512)(x * log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    x = tiny ? all(-87.0f) : x;
    const F shifted = x * log2e + 12582912.0f;  // 1.5 * 2^23: the rounded integer is in the low bits
    const F n = shifted - 12582912.0f;
#endif
    const F r = x * log2e - n;
    F p = all(1.5353360615e-4f);
    p = p * r + 1.3398874860e-3f;
    p = p * r + 9.6184373664e-3f;
    p = p * r + 5.5503324697e-2f;
    p = p * r + 2.4022647913e-1f;
    p = p * r + 6.9314720286e-1f;
    const F value = p * r + 1.0f;
#ifdef TESSERA_AVX512
    return tiny ? F{} : (F)_mm512_scalef_ps((__m512)value, (__m512)n);
#else
    return tiny ? F{} : (F)((I)value + ((I)shifted << 23));
#endif
}

// The part of the normal distribution beyond `size` >= 0, and e^(-size^2 / 2). Abramowitz and Stegun 7.1.26: within 1e-7.
TESSERA_INLINE F normalTail(F size, F& gauss) {
    const F t = reciprocal(1.0f + 0.23164189f * size);
    gauss = exponential(size * size * -0.5f);
    F p = all(0.5307027145f);
    p = p * t - 0.7265760135f;
    p = p * t + 0.7107068705f;
    p = p * t - 0.142248368f;
    p = p * t + 0.127414796f;
    return p * t * gauss;
}
TESSERA_INLINE F sizeOf(F z) { return (F)((U)z & 0x7fffffffu); }

template <class B, class O>
void addNorm(const AddNorm& given, int64_t begin, int64_t end) {
    const AddNorm a = given;
    const int64_t width = a.width;
    for (int64_t row = begin; row < end; ++row) {
        const float* x = a.x + row * width;
        F sums = {};
        if (a.branch) {
            const B* branch = static_cast<const B*>(a.branch) + row * width;
            float* sum = a.sum + row * width;
            const float keep = a.keep ? a.keep[row / a.rowsOfSample] : 1.0f;
            columns(width, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA {
                F add = get(branch + i);
                if (a.bias) add += get(a.bias + i);
                if (a.gamma) add *= get(a.gamma + i);
                const F s = get(x + i) + add * keep;
                put(sum + i, s);
                sums += s;
            });
            x = sum;
        } else {
            columns(width, [&](int64_t i, auto get, auto) TESSERA_LAMBDA { sums += get(x + i); });
        }
        const float mean = total(sums) / static_cast<float>(width);
        F squares = {};
        int64_t i = 0;
        for (; i + kLanes <= width; i += kLanes) {
            const F d = load(x + i) - mean;
            squares += d * d;
        }
        float square = total(squares);
        for (; i < width; ++i) square += (x[i] - mean) * (x[i] - mean);
        const float rstd = 1.0f / __builtin_sqrtf(square / static_cast<float>(width) + a.eps);
        O* normed = static_cast<O*>(a.normed) + row * width;
        columns(width, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA {
            put(normed + i, (get(x + i) - mean) * rstd * get(a.weight + i) + get(a.shift + i));
        });
        a.mean[row] = mean;
        a.rstd[row] = rstd;
    }
}

template <class B, class O>
void addNormBackward(const AddNormBackward& given, int64_t begin, int64_t end) {
    const AddNormBackward a = given;
    const int64_t width = a.width;
    const float share = 1.0f / static_cast<float>(width);
    for (int64_t row = begin; row < end; ++row) {
        const float* sum = a.sum + row * width;
        const O* normedGrad = a.normedGrad ? static_cast<const O*>(a.normedGrad) + row * width : nullptr;
        const float* sumGrad = a.sumGrad ? a.sumGrad + row * width : nullptr;
        const float mean = a.mean[row], rstd = a.rstd[row];
        float first = 0, second = 0;
        if (normedGrad) {
            F g1 = {}, g2 = {};
            columns(width, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA {
                const F dy = get(normedGrad + i), hat = (get(sum + i) - mean) * rstd, g = dy * get(a.weight + i);
                g1 += g;
                g2 += g * hat;
                put(a.weightGrad + i, get(a.weightGrad + i) + dy * hat);
                put(a.shiftGrad + i, get(a.shiftGrad + i) + dy);
            });
            first = total(g1) * share;
            second = total(g2) * share;
        }
        const float keep = a.keep ? a.keep[row / a.rowsOfSample] : 1.0f;
        float* xGrad = a.xGrad + row * width;
        B* branchGrad = a.branchGrad ? static_cast<B*>(a.branchGrad) + row * width : nullptr;
        const B* branch = a.branch ? static_cast<const B*>(a.branch) + row * width : nullptr;
        columns(width, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA {
            F d = {};
            if (normedGrad) {
                const F hat = (get(sum + i) - mean) * rstd;
                d = rstd * (get(normedGrad + i) * get(a.weight + i) - first - hat * second);
            }
            if (sumGrad) d += get(sumGrad + i);
            put(xGrad + i, d);
            if (!branchGrad) return;
            F scaled = d * keep;
            if (a.gammaGrad) {
                F value = get(branch + i);
                if (a.bias) value += get(a.bias + i);
                put(a.gammaGrad + i, get(a.gammaGrad + i) + scaled * value);
            }
            if (a.gamma) scaled *= get(a.gamma + i);
            if (a.biasGrad) put(a.biasGrad + i, get(a.biasGrad + i) + scaled);
            put(branchGrad + i, scaled);
        });
    }
}

#ifdef TESSERA_AVX512
// Cubics in registers, looked up by all lanes at once: half the instructions of normalTail, for what is rounded to bfloat16 anyway.
struct Lookup {
    F low[4], high[4];
    explicit Lookup(const Cubics& given) {
        for (int i = 0; i < 4; ++i) low[i] = load(given.coefficients[i]), high[i] = load(given.coefficients[i] + kLanes);
    }
    TESSERA_INLINE F at(F size) const {
        const F s = (F)_mm512_min_ps((__m512)all(kCubics - 1.0f), (__m512)(size * kCubicsOfOne));  // in this order NaN stays one
        const F shifted = s + 12582912.0f;  // 1.5 * 2^23: the rounded integer is in the low bits, of which the permutation takes five
        const F r = s - (shifted - 12582912.0f);
        const auto pick = [&](int i) TESSERA_LAMBDA { return (F)_mm512_permutex2var_ps((__m512)low[i], (__m512i)shifted, (__m512)high[i]); };
        return ((pick(3) * r + pick(2)) * r + pick(1)) * r + pick(0);
    }
};
#endif

// z times the part of the normal distribution below z.
template <class T>
struct Gelu {
    TESSERA_INLINE F at(F z) const {
        F gauss;
        const F size = sizeOf(z);
        return (z <= 0.0f ? F{} : z) - size * normalTail(size, gauss);
    }
};
template <class T>
struct GeluSlope {
    TESSERA_INLINE F at(F z) const {
        F gauss;
        const F tail = normalTail(sizeOf(z), gauss);
        return (z >= 0.0f ? 1.0f - tail : tail) + z * gauss * 0.39894228040143268f;
    }
};
#ifdef TESSERA_AVX512
template <>
struct Gelu<Bf16> {
    Lookup table{geluBelow()};
    TESSERA_INLINE F at(F z) const { return (z <= 0.0f ? F{} : z) - table.at(sizeOf(z)); }
};
template <>
struct GeluSlope<Bf16> {
    Lookup table{geluSlopeBelow()};
    TESSERA_INLINE F at(F z) const {
        const F below = table.at(sizeOf(z));
        return z > 0.0f ? 1.0f - below : below;
    }
};
#endif

template <class T>
void biasGelu(const BiasGelu& given, int64_t begin, int64_t end) {
    const BiasGelu a = given;
    const Gelu<T> gelu;
    for (int64_t row = begin; row < end; ++row) {
        const T* x = static_cast<const T*>(a.x) + row * a.width;
        T* out = static_cast<T*>(a.out) + row * a.width;
        columns(a.width, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA {
            F z = get(x + i);
            if (a.bias) z += get(a.bias + i);
            put(out + i, gelu.at(z));
        });
    }
}

template <class T>
void biasGeluBackward(const BiasGeluBackward& given, int64_t begin, int64_t end) {
    const BiasGeluBackward a = given;
    const GeluSlope<T> slope;
    for (int64_t row = begin; row < end; ++row) {
        const T* x = static_cast<const T*>(a.x) + row * a.width;
        const T* outGrad = static_cast<const T*>(a.outGrad) + row * a.width;
        T* xGrad = static_cast<T*>(a.xGrad) + row * a.width;
        columns(a.width, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA {
            F z = get(x + i);
            if (a.bias) z += get(a.bias + i);
            const F d = get(outGrad + i) * slope.at(z);
            put(xGrad + i, d);
            if (a.biasGrad) put(a.biasGrad + i, get(a.biasGrad + i) + d);
        });
    }
}

template <class O>
void weightNorm(const WeightNorm& given, int64_t begin, int64_t end) {
    const WeightNorm a = given;
    for (int64_t row = begin; row < end; ++row) {
        const float* v = a.v + row * a.width;
        O* out = static_cast<O*>(a.out) + row * a.width;
        F squares = {};
        columns(a.width, [&](int64_t i, auto get, auto) TESSERA_LAMBDA { squares += get(v + i) * get(v + i); });
        const float norm = __builtin_sqrtf(total(squares)), factor = a.g[row] / norm;
        columns(a.width, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA { put(out + i, get(v + i) * factor); });
        a.norms[row] = norm;
    }
}

template <class O>
void weightNormBackward(const WeightNormBackward& given, int64_t begin, int64_t end) {
    const WeightNormBackward a = given;
    for (int64_t row = begin; row < end; ++row) {
        const float* v = a.v + row * a.width;
        const O* outGrad = static_cast<const O*>(a.outGrad) + row * a.width;
        float* vGrad = a.vGrad + row * a.width;
        F products = {};
        columns(a.width, [&](int64_t i, auto get, auto) TESSERA_LAMBDA { products += get(v + i) * get(outGrad + i); });
        const float along = total(products) / a.norms[row], factor = a.g[row] / a.norms[row], back = factor * along / a.norms[row];
        columns(a.width, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA { put(vGrad + i, get(outGrad + i) * factor - get(v + i) * back); });
        a.gGrad[row] = along;
    }
}

// The distributions' weighted sum at kLanes columns.
template <class Get>
TESSERA_INLINE F mixture(const PairedEntropy& a, int64_t i, Get get) {
    F sum = {};
    for (int64_t t = 0; t < a.count; ++t) sum += get(a.targets[t] + i) * a.weights[t];
    return sum;
}

template <class L>
float pairedEntropy(const PairedEntropy& given, float* logSum) {
    const PairedEntropy a = given;
    const L* logits = static_cast<const L*>(a.logits);
    F most = all(-__builtin_inff());
    int64_t i = 0;
    for (; i + kLanes <= a.width; i += kLanes) {
        const F s = load(logits + i);
        most = s > most ? s : most;
    }
    const I beyond = lanesFrom(a.width - i);
    if (i < a.width) {
        const F last = without(beyond, load(logits + i, a.width - i));
        most = last > most ? last : most;
    }
    const float highest = highestOf(most);
    // What is not a number is not the highest, but is in the products, and so in the loss.
    F sums = {}, products = {};
    columns(a.width, [&](int64_t k, auto get, auto) TESSERA_LAMBDA {
        const F s = get(logits + k);
        products += mixture(a, k, get) * (s * a.scale);
        sums += exponential(((k < i ? s : without(beyond, s)) - highest) * a.scale);
    });
    *logSum = highest * a.scale + __builtin_logf(total(sums));
    return a.sum * *logSum - total(products);
}

template <class L>
void pairedEntropyBackward(const PairedEntropy& given, float logSum, float grad, void* logitsGrad) {
    const PairedEntropy a = given;
    const L* logits = static_cast<const L*>(a.logits);
    L* to = static_cast<L*>(logitsGrad);
    const float factor = grad * a.scale;
    columns(a.width, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA {
        const F p = exponential(get(logits + i) * a.scale - logSum);
        put(to + i, (p * a.sum - mixture(a, i, get)) * factor);
    });
}

// ---- attention: what stands between the matrix products of one head ------------------------------------------------------

inline void copyHead(const CopyHead& given) {
    const CopyHead a = given;
    for (int64_t row = 0; row < a.rows; ++row) {
        const Bf16* in = static_cast<const Bf16*>(a.in.data) + row * a.in.stride;
        Bf16* out = static_cast<Bf16*>(a.out) + row * a.padded;
        for (int64_t i = a.depth; i < 2 * a.depth; i += 32) __builtin_prefetch(in + i);  // the next head's
        columns(a.depth, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA {
            F x = get(in + i);
            if (a.bias) x += get(a.bias + i);
            put(out + i, x * a.scale);
        });
        for (int64_t i = a.depth; i < a.padded; ++i) out[i] = 0;
    }
}

#ifdef TESSERA_AVX2
TESSERA_INLINE void transpose(U (&rows)[kLanes]) {
    __m256 in[8], pairs[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps((__m256)rows[i], (__m256)rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps((__m256)rows[i], (__m256)rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        in[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        in[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
        in[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        in[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
        rows[i] = (U)_mm256_permute2f128_ps(in[i], in[i + 4], 0x20);
        rows[i + 4] = (U)_mm256_permute2f128_ps(in[i], in[i + 4], 0x31);
    }
}
#else
// Of two vectors, the lanes whose number lacks the bit `Step` of the first, and those of the second behind them; or those that have it.
template <int Step, bool High>
TESSERA_INLINE U mixed(U a, U b) {
    constexpr auto from = [](int k) { return High ? ((k & Step) ? k + 16 : k + Step) : ((k & Step) ? k - Step + 16 : k); };
#ifdef __clang__
    return __builtin_shufflevector(a, b, from(0), from(1), from(2), from(3), from(4), from(5), from(6), from(7), from(8), from(9), from(10), from(11),
                                   from(12), from(13), from(14), from(15));
#else
    constexpr U order = {from(0), from(1), from(2),  from(3),  from(4),  from(5),  from(6),  from(7),
                         from(8), from(9), from(10), from(11), from(12), from(13), from(14), from(15)};
    return __builtin_shuffle(a, b, order);
#endif
}

template <int Step>
TESSERA_INLINE void exchange(U (&rows)[16]) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
        if (i & Step) continue;
        const U a = rows[i], b = rows[i + Step];
        rows[i] = mixed<Step, false>(a, b);
        rows[i + Step] = mixed<Step, true>(a, b);
    }
}

TESSERA_INLINE void transpose(U (&rows)[kLanes]) {
    exchange<8>(rows);
    exchange<4>(rows);
    exchange<2>(rows);
    exchange<1>(rows);
}
#endif

inline void transposePairs(const Bf16* in, int64_t stride, int64_t rows, int64_t depth, int64_t padded, uint32_t* pairs, Bf16* transposed) {
    for (int64_t r = 0; r < padded; r += kLanes) {
        for (int64_t c = 0; c < depth; c += 2 * kLanes) {
            // The loops are unrolled so that the block is in registers.
            U block[kLanes];
            const int64_t count = depth - c;
            const Bf16* from = in + r * stride + c;
            for (int64_t i = 0; i < kLanes; ++i) __builtin_prefetch(from + (i + 32) * stride);  // rows lie too far apart for the processor to guess
            if (r + kLanes <= rows && count >= 2 * kLanes) {
#pragma GCC unroll 16
                for (int64_t i = 0; i < kLanes; ++i) block[i] = raw<U>(from + i * stride);
            } else {
#pragma GCC unroll 16
                for (int64_t i = 0; i < kLanes; ++i)
                    block[i] = r + i >= rows ? U{} : raw<U>(from + i * stride, count < 2 * kLanes ? count : 2 * kLanes);
            }
            transpose(block);
            if (pairs) {
                uint32_t* to = pairs + c / 2 * padded + r;
#pragma GCC unroll 16
                for (int64_t i = 0; i < kLanes; ++i) __builtin_memcpy(to + i * padded, &block[i], sizeof(U));
            }
            if (transposed) {
                Bf16* to = transposed + c * padded + r;
#pragma GCC unroll 16
                for (int64_t i = 0; i < kLanes; ++i) {
                    const H even = shortened(block[i] & 0xffff), odd = shortened(block[i] >> 16);
                    __builtin_memcpy(to + 2 * i * padded, &even, sizeof(H));
                    __builtin_memcpy(to + (2 * i + 1) * padded, &odd, sizeof(H));
                }
            }
        }
    }
}

inline void pairRows(const Bf16* in, int64_t stride, int64_t rows, int64_t depth, int64_t padded, uint32_t* pairs) {
    const int64_t width = (depth + 15) / 16 * 16;
    const auto half = [&](int64_t row, int64_t c) TESSERA_LAMBDA {
        const Bf16* from = in + row * stride + c;
        if (row >= rows) return H{};
        return depth - c >= kLanes ? raw<H>(from) : raw<H>(from, depth - c);
    };
    for (int64_t r = 0; r < padded; r += 2) {
        for (int64_t c = 0; c < depth; c += 32) __builtin_prefetch(in + (r + 16) * stride + c), __builtin_prefetch(in + (r + 17) * stride + c);
        for (int64_t c = 0; c < depth; c += kLanes) {
            const U both = __builtin_convertvector(half(r, c), U) | __builtin_convertvector(half(r + 1, c), U) << 16;
            __builtin_memcpy(pairs + r / 2 * width + c, &both, sizeof(U));
        }
    }
}

inline void rowSums(const Bf16* in, int64_t rows, int64_t columnCount, float* sums) {
    for (int64_t row = 0; row < rows; ++row) {
        F sum = {};
        for (int64_t i = 0; i < columnCount; i += kLanes) sum += load(in + row * columnCount + i);
        sums[row] += total(sum);
    }
}

inline void columnSums(const Bf16* in, int64_t stride, int64_t rows, int64_t columnCount, float* sums) {
    columns(columnCount, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA {
        F sum = get(sums + i);
        for (int64_t row = 0; row < rows; ++row) sum += get(in + row * stride + i);
        put(sums + i, sum);
    });
}

template <class W>
void softmaxRows(const SoftmaxRows& given) {
    const SoftmaxRows a = given;
    const int64_t whole = a.count / kLanes * kLanes, rest = a.count - whole;
    const I beyond = lanesFrom(rest);
    for (int64_t row = 0; row < a.rows; ++row) {
        const float* scores = a.scores + row * a.padded;
        const float* mask = a.mask ? a.mask + row * a.maskStride : nullptr;
        W* weights = static_cast<W*>(a.weights) + row * a.padded;
        const auto scoresAt = [&](int64_t i) TESSERA_LAMBDA {
            const F s = load(scores + i);
            return mask ? s + load(mask + i) : s;
        };
        F last = {}, most = all(-1e30f);
        if (rest) {
            last = load(scores + whole);
            if (mask) last += load(mask + whole, rest);
            last = without(beyond, last);
            most = last > most ? last : most;
        }
        for (int64_t i = 0; i < whole; i += kLanes) {
            const F s = scoresAt(i);
            most = s > most ? s : most;
        }
        const float highest = highestOf(most);
        F sums = {};
        for (int64_t i = 0; i < whole; i += kLanes) {
            const F e = exponential(scoresAt(i) - highest);
            store(weights + i, e);
            sums += e;
        }
        int64_t done = whole;
        if (rest) {
            const F e = exponential(last - highest);
            store(weights + whole, e);
            sums += e;
            done += kLanes;
        }
        for (; done < a.padded; done += kLanes) store(weights + done, F{});
        const float sum = total(sums);
        a.factor[row] = 1.0f / sum;
        a.logSum[row] = highest + __builtin_logf(sum);
    }
}

// One key and kLanes queries: the weights, and the gradients of the scores rounded.
TESSERA_INLINE H scoreGradients(const SoftmaxBackward& a, int64_t row, int64_t i, F logSum, F dots) {
    const int64_t at = row * a.padded + i;
    F s = load(a.scores + at);
    if (a.mask) s += load(a.mask + row * a.maskStride + i);
    const F p = exponential(s - logSum);
    store(a.weights + at, p);
    const H half = narrow(p * (load(a.weightGrads + at) - dots));
    __builtin_memcpy(a.scoreGrads + at, &half, sizeof(H));
    return half;
}

inline void softmaxBackward(const SoftmaxBackward& given) {
    const SoftmaxBackward a = given;
    for (int64_t row = 0; row < a.rows; row += 2) {
        for (int64_t i = 0; i < a.padded; i += kLanes) {
            const F logSum = load(a.logSum + i), dots = load(a.dots + i);
            U pair = __builtin_convertvector(scoreGradients(a, row, i, logSum, dots), U);
            if (row + 1 < a.rows) pair |= __builtin_convertvector(scoreGradients(a, row + 1, i, logSum, dots), U) << 16;
            __builtin_memcpy(a.scoreGradPairs + row / 2 * a.padded + i, &pair, sizeof(U));
        }
    }
}

template <class O>
void storeRows(const float* in, int64_t rows, int64_t depth, int64_t padded, const float* factors, RowsOut out, float* sums) {
    for (int64_t row = 0; row < rows; ++row) {
        O* to = static_cast<O*>(out.data) + row * out.stride;
        const float factor = factors ? factors[row] : 1.0f;
        columns(depth, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA {
            const F x = get(in + row * padded + i) * factor;
            put(to + i, x);
            if (sums) put(sums + i, get(sums + i) + x);
        });
    }
}

template <class O>
void storeTransposed(const float* in, int64_t rows, int64_t depth, int64_t stride, float factor, RowsOut out, float* sums) {
    O* to = static_cast<O*>(out.data);
    for (int64_t r = 0; r < rows; r += kLanes) {
        for (int64_t c = 0; c < depth; c += kLanes) {
            U block[kLanes];
#pragma GCC unroll 16
            for (int64_t i = 0; i < kLanes; ++i) block[i] = raw<U>(in + (c + i) * stride + r);
            transpose(block);
            const int64_t count = rows - r < kLanes ? rows - r : kLanes;
            columns(depth - c < kLanes ? depth - c : kLanes, [&](int64_t, auto get, auto put) TESSERA_LAMBDA {
                F sum = {};
                for (int64_t i = 0; i < count; ++i) {
                    const F x = (F)block[i] * factor;
                    put(to + (r + i) * out.stride + c, x);
                    sum += x;
                }
                if (sums) put(sums + c, get(sums + c) + sum);
            });
        }
    }
}

template <class T>
void rowDots(Rows a, Rows b, int64_t rows, int64_t depth, float* dots) {
    for (int64_t row = 0; row < rows; ++row) {
        const T *left = static_cast<const T*>(a.data) + row * a.stride, *right = static_cast<const T*>(b.data) + row * b.stride;
        F sum = {};
        columns(depth, [&](int64_t i, auto get, auto) TESSERA_LAMBDA { sum += get(left + i) * get(right + i); });
        dots[row] = total(sum);
    }
}

// ---- the highest of many numbers -----------------------------------------------------------------------------------------

// One bit for each lane that is not below `least`.
TESSERA_INLINE uint32_t lanesNotBelow(F v, float least) {
#if defined(TESSERA_AVX512)
    return _mm512_cmp_ps_mask((__m512)v, (__m512)all(least), _CMP_GE_OQ);
#elif defined(TESSERA_AVX2)
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps((__m256)v, (__m256)all(least), _CMP_GE_OQ)));
#else
    uint32_t lanes = 0;
    for (int64_t i = 0; i < kLanes; ++i) lanes |= static_cast<uint32_t>(v[i] >= least) << i;
    return lanes;
#endif
}

inline int64_t notBelow(const float* in, int64_t count, float least, int32_t* places) {
    int64_t found = 0, i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (uint32_t lanes = lanesNotBelow(load(in + i), least); lanes; lanes &= lanes - 1) places[found++] = static_cast<int32_t>(i) + __builtin_ctz(lanes);
    for (; i < count; ++i)
        if (in[i] >= least) places[found++] = static_cast<int32_t>(i);
    return found;
}

// ---- products of matrices ------------------------------------------------------------------------------------------------

#if defined(TESSERA_AVX512)
#define TESSERA_STRIPS
constexpr int64_t kStrip = 8, kPanel = 48;
TESSERA_INLINE void addTo(float* c, F sum, int64_t count, bool add) {
    const __mmask16 mask = count >= kLanes ? 0xffff : firstLanes(count > 0 ? count : 0);
    if (add) sum += (F)_mm512_maskz_loadu_ps(mask, c);
    _mm512_mask_storeu_ps(c, mask, (__m512)sum);
}
#elif defined(TESSERA_AVX2)
#define TESSERA_STRIPS
// 12 sums, two parts of the right matrix and a number of the left one: all but one of the 16 registers.
constexpr int64_t kStrip = 6, kPanel = 16;
TESSERA_INLINE void addTo(float* c, F sum, int64_t count, bool add) {
    if (count >= kLanes) {
        if (add) sum += load(c);
        store(c, sum);
    } else if (count > 0) {
        const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        if (add) sum += (F)_mm256_maskload_ps(c, mask);
        _mm256_maskstore_ps(c, mask, (__m256)sum);
    }
}
#else
constexpr int64_t kStrip = 1, kPanel = 16;
#endif

#ifdef TESSERA_STRIPS
template <int Rows, bool Packed, int kVectors>
void stripOf(const Strip& a) {
    F sums[Rows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) sums[r][v] = F{};
    const float *start = a.a, *right = a.b;
    const int64_t strideA = a.strideA;
    for (int64_t left = a.depth; left > 0; left -= a.run, start += a.jump) {
        const int64_t run = left < a.run ? left : a.run;
        const float* from = start;
        for (int64_t k = 0; k < run; ++k, right += kPanel, from += Packed ? kStrip : 1) {
            F b[kVectors];
#pragma GCC unroll 3
            for (int v = 0; v < kVectors; ++v) b[v] = load(right + v * kLanes);
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) {
                const float x = from[Packed ? r : r * strideA];
#pragma GCC unroll 3
                for (int v = 0; v < kVectors; ++v) sums[r][v] += b[v] * x;
            }
        }
    }
    // What c holds is added last: sums of sums are nearer to the truth than one long sum.
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v)
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) addTo(a.c + r * a.strideC + v * kLanes, sums[r][v], a.columns - v * kLanes, a.add);
}

// By the number of rows, and of vectors that the columns fill.
template <bool Packed, int Vectors, int... Less>
void stripBy(const Strip& a, std::integer_sequence<int, Less...>) {
    constexpr void (*each[])(const Strip&) = {stripOf<Less + 1, Packed, Vectors>...};
    each[a.rows - 1](a);
}

template <int Vectors>
void stripOfVectors(const Strip& a) {
    constexpr std::make_integer_sequence<int, kStrip> rows;
    a.packed ? stripBy<true, Vectors>(a, rows) : stripBy<false, Vectors>(a, rows);
}

inline void strip(const Strip& a) {
    if (a.columns > kPanel - kLanes) return stripOfVectors<kPanel / kLanes>(a);
    if (a.columns > kLanes) return stripOfVectors<2>(a);
    stripOfVectors<1>(a);
}

inline void multiplyPanels(const PanelProduct& given) {
    const PanelProduct p = given;
    for (int64_t from = 0; from < p.k; from += kTileDepth) {
        const int64_t depth = p.k - from < kTileDepth ? p.k - from : kTileDepth;
        const float* left = p.a.data + (from < p.a.run ? from : from / p.a.run * p.a.jump);
        for (int64_t column = 0; column < p.n; column += kPanel) {
            const int64_t columnCount = p.n - column < kPanel ? p.n - column : kPanel;
            const float* right = p.b + column / kPanel * p.jumpB + from * kPanel;
            float* c = p.c.data + column / kPanel * p.c.jump;
            for (int64_t row = 0; row < p.m; row += kStrip)
                strip({depth, p.m - row < kStrip ? p.m - row : kStrip, columnCount, left + row * p.a.stride, p.a.stride, false, right, c + row * p.c.stride,
                       p.c.stride, p.add || from > 0, p.a.run, p.a.jump});
        }
    }
}

template <class T>
void copyPanels(const CopyHead& given) {
    const CopyHead a = given;
    for (int64_t row = 0; row < a.rows; ++row) {
        const T* in = static_cast<const T*>(a.in.data) + row * a.in.stride;
        float* out = static_cast<float*>(a.out) + row * kPanel;
        for (int64_t i = a.depth; i < 2 * a.depth; i += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(in + i);  // the next head's
        const auto place = [&](int64_t i) TESSERA_LAMBDA { return out + i / kPanel * a.rows * kPanel + i % kPanel; };
        columns(a.depth, [&](int64_t i, auto get, auto) TESSERA_LAMBDA {
            F x = get(in + i);
            if (a.bias) x += get(a.bias + i);
            store(place(i), x * a.scale);
        });
        for (int64_t i = (a.depth + kLanes - 1) / kLanes * kLanes; i % kPanel; i += kLanes) store(place(i), F{});
    }
}

inline void panelSoftmaxBackward(const PanelSoftmaxBackward& given) {
    const PanelSoftmaxBackward a = given;
    for (int64_t panel = 0; panel < a.padded; panel += kPanel) {
        for (int64_t v = 0; v < kPanel; v += kLanes) {
            const int64_t at = panel + v;
            const F logSum = load(a.logSum + at), dots = load(a.dots + at);
            float *scores = a.scores + panel * a.rows + v, *grads = a.weightGrads + panel * a.rows + v;
            for (int64_t row = 0; row < a.rows; ++row, scores += kPanel, grads += kPanel) {
                F s = load(scores);
                if (a.mask) s += load(a.mask + row * a.maskStride + at);
                const F p = exponential(s - logSum);
                store(scores, p);
                store(grads, p * (load(grads) - dots));
            }
        }
    }
}
#endif

#ifdef TESSERA_AVX512_BF16
// Rows for so many vectors of columns: 24 sums, or 12 of one vector alone, and a part of each matrix are in the 32 registers.
constexpr int pairRowsFor(int vectors) { return vectors == 1 ? 12 : 24 / vectors; }

template <int Rows, int Vectors>
void pairStripOf(const PairProduct& p, int64_t row) {
    __m512 sums[Rows][Vectors];
#pragma GCC unroll 12
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sums[r][v] = _mm512_setzero_ps();
    float* c = p.c + row * p.strideC;
    Bf16* out = p.out ? p.out + row * p.strideOut : nullptr;
    // What is written, the next strip's rows and the pairs to come are fetched meanwhile, which makes it 2 to 5 % faster.
#pragma GCC unroll 12
    for (int r = 0; r < Rows; ++r)
        for (int64_t i = 0; i < Vectors * kLanes; i += out ? 32 : 16) __builtin_prefetch(out ? static_cast<void*>(out + r * p.strideOut + i) : c + r * p.strideC + i, 1);
    const Bf16* left = p.a + row * p.strideA;
    const uint32_t* right = p.b;
    const int64_t strideA = p.strideA, strideB = p.strideB;
    for (int64_t k = 0; k < p.pairs; ++k, left += 2, right += strideB) {
        if (k % 16 == 0)
#pragma GCC unroll 12
            for (int r = 0; r < Rows; ++r) __builtin_prefetch(left + (Rows + r) * strideA);
        __m512bh b[Vectors];
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) b[v] = (__m512bh)_mm512_loadu_si512(right + v * kLanes), __builtin_prefetch(right + 8 * strideB + v * kLanes);
#pragma GCC unroll 12
        for (int r = 0; r < Rows; ++r) {
            const __m512bh x = (__m512bh)_mm512_set1_epi32(raw<int32_t>(left + r * strideA));
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], x, b[v]);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
        const int64_t at = v * kLanes;
        const auto finish = [&](auto get, auto put) TESSERA_LAMBDA {
            const F bias = p.bias ? get(p.bias + at) : F{};
#pragma GCC unroll 12
            for (int r = 0; r < Rows; ++r) {
                F sum = (F)sums[r][v] + bias;
                if (p.add) sum += get(c + r * p.strideC + at);
                if (out) put(out + r * p.strideOut + at, sum);
                else put(c + r * p.strideC + at, sum);
            }
        };
        if (const int64_t count = p.n - at; count >= kLanes) finish([](auto* from) TESSERA_LAMBDA { return load(from); }, [](auto* to, F sum) TESSERA_LAMBDA { store(to, sum); });
        else finish([=](auto* from) TESSERA_LAMBDA { return load(from, count); }, [=](auto* to, F sum) TESSERA_LAMBDA { store(to, sum, count); });
    }
}

template <int Vectors, int... Less>
void pairStrips(const PairProduct& p, std::integer_sequence<int, Less...>) {
    constexpr int64_t rows = pairRowsFor(Vectors);
    constexpr void (*each[])(const PairProduct&, int64_t) = {pairStripOf<Less + 1, Vectors>...};
    for (int64_t row = 0; row < p.m; row += rows) each[(p.m - row < rows ? p.m - row : rows) - 1](p, row);
}

template <int Vectors>
void pairStrips(const PairProduct& p) {
    pairStrips<Vectors>(p, std::make_integer_sequence<int, pairRowsFor(Vectors)>());
}

inline void multiplyPairs(const PairProduct& given) {
    const PairProduct p = given;
    constexpr void (*each[])(const PairProduct&) = {pairStrips<1>, pairStrips<2>, pairStrips<3>, pairStrips<kPairColumns / kLanes>};
    each[(p.n - 1) / kLanes](p);
}
#endif

template <class T>
void transposePanel(const void* given, int64_t stride, int64_t depth, int64_t count, float* panel) {
    const T* in = static_cast<const T*>(given);
    for (int64_t c = 0; c < kPanel; c += kLanes) {
        for (int64_t k = 0; k < depth; k += kLanes) {
            U block[kLanes];
            const int64_t rest = depth - k;
            for (int64_t i = 0; i < kLanes; ++i) {
                const T* from = in + (c + i) * stride + k;
                block[i] = c + i >= count ? U{} : (U)(rest >= kLanes ? load(from) : load(from, rest));
            }
            transpose(block);
            for (int64_t i = 0; i < (rest < kLanes ? rest : kLanes); ++i) __builtin_memcpy(panel + (k + i) * kPanel + c, &block[i], sizeof(U));
        }
    }
}

template <class From, class To>
void convertRow(const From* in, int64_t count, To* out) {
    columns(count, [&](int64_t i, auto get, auto put) TESSERA_LAMBDA { put(out + i, get(in + i)); });
}

constexpr Table made() {
#ifdef TESSERA_AVX2
    constexpr bool widensHalves = true;
#else
    constexpr bool widensHalves = false;
#endif
    return {widensHalves,
            {{addNorm<float, float>, addNorm<float, Bf16>}, {addNorm<Bf16, float>, addNorm<Bf16, Bf16>}},
            {{addNormBackward<float, float>, addNormBackward<float, Bf16>}, {addNormBackward<Bf16, float>, addNormBackward<Bf16, Bf16>}},
            {biasGelu<float>, biasGelu<Bf16>},
            {biasGeluBackward<float>, biasGeluBackward<Bf16>},
            {weightNorm<float>, weightNorm<Bf16>},
            {weightNormBackward<float>, weightNormBackward<Bf16>},
            {pairedEntropy<float>, pairedEntropy<Bf16>},
            {pairedEntropyBackward<float>, pairedEntropyBackward<Bf16>},
            kStrip,
            kPanel,
#ifdef TESSERA_STRIPS
            strip,
#else
            nullptr,
#endif
            {transposePanel<float>, transposePanel<Bf16>},
            convertRow<Bf16, float>,
            convertRow<float, Bf16>,
#ifdef TESSERA_STRIPS
            multiplyPanels,
#else
            nullptr,
#endif
#ifdef TESSERA_AVX512_BF16
            multiplyPairs,
#else
            nullptr,
#endif
            copyHead,
#ifdef TESSERA_STRIPS
            {copyPanels<float>, copyPanels<Bf16>},
#else
            {},
#endif
            transposePairs,
            pairRows,
            rowSums,
            columnSums,
            {softmaxRows<float>, softmaxRows<Bf16>},
            softmaxBackward,
#ifdef TESSERA_STRIPS
            panelSoftmaxBackward,
#else
            nullptr,
#endif
            {storeRows<float>, storeRows<Bf16>},
            {storeTransposed<float>, storeTransposed<Bf16>},
            {rowDots<float>, rowDots<Bf16>},
            notBelow};
}

#undef TESSERA_STRIPS
