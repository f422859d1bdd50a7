// A caching CPU allocator. A training step frees and asks again for the same hundreds of megabytes: malloc gives large blocks back to the
// kernel and pays for them in page faults at every step, and fragments over time. Here a freed block waits in its size class for the next.
// Small ones too: malloc is slow where an alignment is asked for. bench/allocator.mjs measures it.
#include "bridge.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/alignment.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>

namespace tessera {

namespace {

constexpr size_t kHeader = 64;                 // before each block: its size; keeps the block aligned to a cache line
constexpr size_t kSmallest = 64;               // sizes are multiples of it
constexpr size_t kHugePage = 2 * 1024 * 1024;
constexpr size_t kClassesPerOctave = 8;        // at most 12.5 % of a block is slack
constexpr size_t kLarge = 1024 * 1024;
constexpr size_t kClassesAbove = 4;            // a block that waits serves requests down to two thirds of it
constexpr size_t kClasses = 64 * kClassesPerOctave;

struct Header {
    uint64_t size;       // of the block behind it, rounded up to its class
    uint64_t requested;  // what was asked for
    uint64_t mark;       // kMark, where blocks are checked
};

// With TESSERA_CHECK_MEMORY set, the slack behind each block (at least this much) is filled, and looked at when the block is freed: a
// kernel that wrote past its end is told at once, not by a crash somewhere else. The fuzz runs so.
constexpr size_t kSlack = 128;
constexpr unsigned char kFill = 0xa5;
constexpr uint64_t kMark = 0x7e55e7a0b10c4ead;

unsigned widthOf(size_t value) { return 64u - static_cast<unsigned>(__builtin_clzll(value)); }

// The class of a size, and the size of that class: eight steps between powers of two. Every block has the size of its class, also while
// caching is off, because it may be freed when it is on again.
size_t classOf(size_t size, size_t& rounded) {
    size = (size + kSmallest - 1) / kSmallest * kSmallest;
    unsigned width = widthOf(size - 1);
    size_t step = size_t{1} << (width > 4 ? width - 4 : 0);
    rounded = (size + step - 1) / step * step;
    width = widthOf(rounded);
    return (width - 1) * kClassesPerOctave + ((rounded >> (width - 4)) & 7);
}

size_t memoryOfThisMachine() {
    size_t total = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
    for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
        std::ifstream file(path);
        size_t limit = 0;
        if (file >> limit && limit > 0 && limit < total) total = limit;
    }
    return total;
}

// Whether large blocks ask for huge pages, which save faults and TLB misses. Not where the hypervisor keeps shadow page tables (Linux's PVM):
// there each small page behind a huge one is paid for again and again, and a training step took 1.7 times as long.
bool wantsHugePages() {
    if (std::getenv("TESSERA_NO_HUGE_PAGES")) return false;
    if (std::getenv("TESSERA_HUGE_PAGES")) return true;
    std::ifstream symbols("/proc/kallsyms");
    std::string start(1 << 16, '\0');
    symbols.read(start.data(), static_cast<std::streamsize>(start.size()));
    return start.find(" pvm_") == std::string::npos;
}

void deleteBlock(void* block);

class CachingAllocator final : public at::Allocator {
public:
    CachingAllocator() : hugePages_(wantsHugePages()), checked_(std::getenv("TESSERA_CHECK_MEMORY")), limit_(memoryOfThisMachine() / 100 * 95), cacheLimit_(memoryOfThisMachine() / 4) {}

#if TESSERA_TORCH_AT_LEAST(2, 3)
    at::DataPtr allocate(size_t size) override { return make(size); }
    void copy_data(void* dest, const void* src, std::size_t count) const override { default_copy_data(dest, src, count); }
#else
    at::DataPtr allocate(size_t size) const override { return const_cast<CachingAllocator*>(this)->make(size); }
#endif
    bool hugePages() const { return hugePages_; }
    at::DeleterFnPtr raw_deleter() const override { return &deleteBlock; }

    void give(void* block) {
        auto* header = reinterpret_cast<Header*>(static_cast<char*>(block) - kHeader);
        if (checked_) verify(header);
        std::unique_lock<std::mutex> lock(mutex_);
        const size_t size = header->size;
        inUse_ -= size;
        size_t rounded;
        if (enabled_ && cached_ + size <= cacheLimit_) {
            free_[classOf(size, rounded)].push_back(header);
            cached_ += size;
            return;
        }
        lock.unlock();
        std::free(header);
    }

    void emptyCache() {
        std::lock_guard<std::mutex> lock(mutex_);
        emptyLocked();
    }

    void configure(bool enabled, size_t cacheLimit, size_t limit) {
        std::lock_guard<std::mutex> lock(mutex_);
        enabled_ = enabled;
        if (cacheLimit) cacheLimit_ = cacheLimit;
        if (limit) limit_ = limit;
        if (!enabled_ || cached_ > cacheLimit_) emptyLocked();
    }

    struct Stats {
        bool enabled;
        size_t inUse, peak, cached, cacheLimit, limit, requests, hits;
    };

    Stats stats() {
        std::lock_guard<std::mutex> lock(mutex_);
        return {enabled_, inUse_, peak_, cached_, cacheLimit_, limit_, requests_, hits_};
    }

    void resetPeak() {
        std::lock_guard<std::mutex> lock(mutex_);
        peak_ = inUse_;
    }

private:
    void emptyLocked() {
        for (auto& list : free_) {
            for (Header* header : list) std::free(header);
            list.clear();
        }
        cached_ = 0;
    }

    // Gives back what waits, the largest first, so that with `size` more no more is held than a quarter above what was in use at most. A sixteenth
    // made each step of DINO give 150 MB back and fault them in again, which took a fifth of it; the process was no smaller for it, because
    // malloc keeps what lies between.
    void makeRoom(size_t size) {
        const size_t allowed = peak_ + peak_ / 4;
        for (size_t c = kClasses; c-- > 0 && inUse_ + cached_ + size > allowed;) {
            while (!free_[c].empty() && inUse_ + cached_ + size > allowed) {
                Header* header = free_[c].back();
                if (header->size < kLarge) return;
                free_[c].pop_back();
                cached_ -= header->size;
                std::free(header);
            }
        }
    }

    at::DataPtr make(size_t size) {
        const at::Device cpu(at::DeviceType::CPU);
        if (size == 0) return {nullptr, nullptr, &deleteNothing, cpu};
        Header* header = nullptr;
        size_t rounded;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            requests_++;
            if (size > limit_ - std::min(inUse_, limit_)) refuse(size);
            const size_t first = classOf(checked_ ? size + kSlack : size, rounded);
            // A large block may come from a class or more above: half of it idle while it is used is less than all of it waiting.
            const size_t last = rounded >= kLarge ? std::min(first + kClassesAbove, kClasses - 1) : first;
            for (size_t c = first; c <= last && !header; ++c) {
                if (free_[c].empty()) continue;
                header = free_[c].back();
                free_[c].pop_back();
                rounded = header->size;
                cached_ -= rounded;
                hits_++;
            }
            if (!header && inUse_ + cached_ + rounded > limit_) {
                emptyLocked();  // what waits counts as well
            }
            if (!header && rounded >= kLarge) makeRoom(rounded);
            inUse_ += rounded;
            peak_ = std::max(peak_, inUse_);
        }
        if (!header) header = fresh(rounded);
        header->size = rounded;
        header->requested = size;
        header->mark = kMark;
        void* block = reinterpret_cast<char*>(header) + kHeader;
        if (checked_) std::memset(static_cast<char*>(block) + size, kFill, rounded - size);
        return {block, block, &deleteBlock, cpu};
    }

    static void verify(const Header* header) {
        const auto* block = reinterpret_cast<const unsigned char*>(header) + kHeader;
        const auto* end = block + header->size;
        if (header->mark == kMark && std::all_of(block + header->requested, end, [](unsigned char each) { return each == kFill; })) return;
        std::fprintf(stderr, "tessera: memory before or behind a block of %llu bytes was written\n", static_cast<unsigned long long>(header->requested));
        std::abort();
    }

    Header* fresh(size_t size) {
        // Large blocks start on a huge page, so that the kernel can back them with few of them: fewer faults, fewer TLB misses.
        const size_t alignment = hugePages_ && size >= 2 * kHugePage ? kHugePage : kHeader;
        void* memory = nullptr;
        for (int attempt = 0; attempt < 2; ++attempt) {
            if (posix_memalign(&memory, alignment, size + kHeader) == 0) break;
            memory = nullptr;
            emptyCache();
        }
        if (!memory) {
            std::lock_guard<std::mutex> lock(mutex_);
            inUse_ -= size;
            refuse(size);
        }
        if (alignment == kHugePage) madvise(memory, size + kHeader, MADV_HUGEPAGE);
        return static_cast<Header*>(memory);
    }

    [[noreturn]] void refuse(size_t size) {
        fail(ErrorKind::OutOfMemory, "not enough memory: " + std::to_string(size) + " bytes were asked for, " + std::to_string(inUse_) + " of " +
                                         std::to_string(limit_) + " are in use");
    }

    static void deleteNothing(void*) {}

    std::mutex mutex_;
    std::array<std::vector<Header*>, kClasses> free_;
    bool enabled_ = true;
    const bool hugePages_, checked_;
    size_t limit_, cacheLimit_;
    size_t inUse_ = 0, peak_ = 0, cached_ = 0, requests_ = 0, hits_ = 0;
};

CachingAllocator& allocator() {
    static auto* instance = new CachingAllocator;  // never destroyed: tensors may outlive static destructors
    return *instance;
}

// oneDNN's wrapper inside libtorch frees null pointers through here.
void deleteBlock(void* block) {
    if (block) allocator().give(block);
}

// configureAllocator(caching, cacheLimitBytes, memoryLimitBytes); 0 leaves a limit as it is.
napi_value configureAllocator(napi_env env, size_t, napi_value* argv) {
    auto bytes = [&](napi_value value, const char* what) {
        int64_t amount = integer(env, value, what);
        if (amount < 0) badArgument(std::string(what) + " must not be negative");
        return static_cast<size_t>(amount);
    };
    allocator().configure(boolean(env, argv[0], "caching"), bytes(argv[1], "cacheLimit"), bytes(argv[2], "memoryLimit"));
    return nullptr;
}

napi_value emptyCache(napi_env, size_t, napi_value*) {
    allocator().emptyCache();
    return nullptr;
}

napi_value resetPeak(napi_env, size_t, napi_value*) {
    allocator().resetPeak();
    return nullptr;
}

napi_value allocatorStats(napi_env env, size_t, napi_value*) {
    auto stats = allocator().stats();
    napi_value out;
    check(napi_create_object(env, &out));
    auto set = [&](const char* name, size_t value) { check(napi_set_named_property(env, out, name, makeNumber(env, static_cast<double>(value)))); };
    check(napi_set_named_property(env, out, "caching", makeBool(env, stats.enabled)));
    check(napi_set_named_property(env, out, "hugePages", makeBool(env, allocator().hugePages())));
    set("bytesInUse", stats.inUse);
    set("peakBytes", stats.peak);
    set("bytesCached", stats.cached);
    set("cacheLimit", stats.cacheLimit);
    set("memoryLimit", stats.limit);
    set("requests", stats.requests);
    set("hits", stats.hits);
    return out;
}

}  // namespace

void exportAllocator(napi_env env, napi_value exports) {
    c10::SetCPUAllocator(&allocator(), 255);
    addFunction(env, exports, "configureAllocator", guarded<configureAllocator>);
    addFunction(env, exports, "emptyCache", guarded<emptyCache>);
    addFunction(env, exports, "resetPeak", guarded<resetPeak>);
    addFunction(env, exports, "allocatorStats", guarded<allocatorStats>);
}

}  // namespace tessera
