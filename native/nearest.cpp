// The highest numbers of each row and where they are, of rows that come in pieces: for the nearest of many features. Most numbers of a row are below
// the k highest so far, and are passed over by comparisons alone.
#include "fused.h"

#include <ATen/record_function.h>

#include <cstring>
#include <functional>
#include <limits>

namespace tessera {

namespace {

using at::Tensor;
using kernels::kPlaces;

// A number and its place in one integer, in whose order the higher number comes first and of equal ones the lower place.
int64_t keyOf(float value, int64_t place) {
    int32_t bits;
    value += 0.0f;  // -0 is 0
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<int64_t>(static_cast<uint64_t>(bits ^ ((bits >> 31) & 0x7fffffff)) << 32 | static_cast<uint32_t>(0xffffffff - place));
}

float valueOf(int64_t key) {
    const auto high = static_cast<int32_t>(key >> 32);
    const int32_t bits = high ^ ((high >> 31) & 0x7fffffff);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    // The key that is below all others holds no number.
    return value == value ? value : -std::numeric_limits<float>::infinity();
}

// The highest `k` keys so far, and some that may be among them.
class Highest {
public:
    explicit Highest(int64_t k) : k_(k), keys_(2 * k + 2 * kPlaces) {}

    void start(const int64_t* keys) {
        std::copy(keys, keys + k_, keys_.begin());
        count_ = k_;
        rise(*std::min_element(keys, keys + k_));
    }

    void add(const float* values, int64_t count, int64_t first) {
        int32_t places[kPlaces];
        for (int64_t from = 0; from < count; from += kPlaces) {
            const int64_t found = kernels::table().notBelow(values + from, std::min(kPlaces, count - from), leastValue_, places);
            for (int64_t i = 0; i < found; ++i) {
                const int64_t at = from + places[i], key = keyOf(values[at], first + at);
                if (key > least_) keys_[count_++] = key;
            }
            if (count_ + kPlaces > static_cast<int64_t>(keys_.size())) prune();
        }
    }

    void finish(int64_t* keys) {
        prune();
        std::copy(keys_.begin(), keys_.begin() + k_, keys);
    }

private:
    void prune() {
        if (count_ == k_) return;
        std::nth_element(keys_.begin(), keys_.begin() + k_ - 1, keys_.begin() + count_, std::greater<>());
        count_ = k_;
        rise(keys_[k_ - 1]);
    }

    void rise(int64_t least) {
        least_ = least;
        leastValue_ = valueOf(least);
    }

    int64_t k_, count_ = 0, least_ = 0;
    float leastValue_ = 0;
    std::vector<int64_t> keys_;
};

void keepHighest(const Tensor& keys, const Tensor& values, int64_t first) {
    const char* op = "tessera::keep_highest";
    TORCH_CHECK(keys.device().is_cpu() && keys.scalar_type() == at::kLong && keys.dim() == 2 && keys.size(1) > 0 && keys.is_contiguous(), op,
                " expects keys as a contiguous int64 tensor [rows, k] on the CPU, got ", keys.sizes(), " of ", keys.scalar_type());
    TORCH_CHECK(isFloat(values) && values.dim() == 2 && values.size(0) == keys.size(0) && (values.size(1) < 2 || values.stride(1) == 1), op,
                " expects values as a float32 tensor [", keys.size(0), ", columns] on the CPU whose rows are contiguous, got ", values.sizes(), " of ",
                values.scalar_type());
    TORCH_CHECK(first >= 0 && first + values.size(1) < int64_t{1} << 32, op, " expects places from 0 to below 2^32, got ", first, " to ", first + values.size(1));
    RECORD_FUNCTION("tessera::keep_highest", std::vector<c10::IValue>({keys, values}));
    const int64_t k = keys.size(1);
    overRows(keys.size(0), values.size(1), [&](int64_t begin, int64_t end) {
        Highest highest(k);
        for (int64_t row = begin; row < end; ++row) {
            int64_t* here = static_cast<int64_t*>(keys.data_ptr()) + row * k;
            highest.start(here);
            highest.add(floats(values) + row * values.stride(0), values.size(1), first);
            highest.finish(here);
        }
    });
}

}  // namespace

void registerNearest() {
    registerOperator("keep_highest", "keep_highest(Tensor(a!) keys, Tensor values, int first) -> ()", keepHighest);
}

}  // namespace tessera
