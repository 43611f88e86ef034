// Dropout on the CPU: units of the hidden layers are left out of a step, by the random numbers of philox.cuh. No mask
// is stored: a and g'(z) are multiplied by it right after they are formed, and delta has it from g'(z).
#pragma once
#include "cpu/epoch_plan.h"
#include "shared/philox.cuh"

#include <algorithm>
#include <cstdint>

namespace dropout {

// The numbers of one layer in one minibatch; entry i of its a, (rows, units), has number `first` + i.
template <typename T> struct Mask {
    uint64_t key0, key1;
    int64_t first;
    int32_t least;  // the upper 24 bits of a number that keeps its unit are no less
    T scale;
    bool drops;

    // Multiplies the entries `at` to `at` + n of the layer's a and g', which begin at `a` and `slope`.
    void apply(int64_t at, int64_t n, T* __restrict__ a, T* __restrict__ slope) const {
        const int64_t AT_ONCE = 1024, BLOCK = 8;
        uint32_t numbers[AT_ONCE + BLOCK];
        const int64_t begin = first + at;
        const T own = scale;
        const int32_t lowest = least;
        for (int64_t done = 0; done < n;) {
            const int64_t number = begin + done, skipped = number % BLOCK;
            const int64_t count = std::min(AT_ONCE - skipped, n - done);
            for (int64_t b = 0; b * BLOCK < skipped + count; ++b) {
                philox::word c[4];
                philox::block(philox::word(number / BLOCK + b + 1), key0, key1, c);
                for (int j = 0; j < 4; ++j) {
                    numbers[b * BLOCK + 2 * j] = uint32_t(c[j]);
                    numbers[b * BLOCK + 2 * j + 1] = uint32_t(c[j] >> 32);
                }
            }
            const uint32_t* drawn = numbers + skipped;
            T *of_a = a + done, *of_slope = slope + done;
#pragma GCC ivdep
            for (int64_t i = 0; i < count; ++i) {
                const T mask = int32_t(drawn[i] >> 8) >= lowest ? own : T(0);
                of_a[i] *= mask;
                of_slope[i] *= mask;
            }
            done += count;
        }
    }
};

// The mask of hidden layer l, the first being 0, in a process's share of a minibatch.
template <typename T> Mask<T> mask_of(const EpochPlan& p, int64_t epoch, const MinibatchShare& of, int64_t l) {
    if (!p.keep || l >= p.layers - 1 || p.keep[l] >= 1.0) return {0, 0, 0, 0, T(1), false};
    int64_t of_a_row = 0, before = 0;
    for (int64_t i = 0; i < p.layers - 1; ++i) {
        if (p.keep[i] >= 1.0) continue;
        of_a_row += p.sizes[i + 1];
        if (i < l) before += p.sizes[i + 1];
    }
    int32_t least = 0;  // the number of tops that do not keep, by bisection
    for (int32_t step = 1 << 24; step; step >>= 1)
        if (least + step <= 1 << 24 && !philox::keeps(unsigned(least + step - 1), float(p.keep[l]))) least += step;
    const uint64_t* key = p.keys + 2 * epoch;
    const int64_t first = p.drawn + of.whole_start * of_a_row + of.whole_rows * before + of.place * p.sizes[l + 1];
    return {key[0], key[1], first, least, T(1.0 / p.keep[l]), true};
}

}  // namespace dropout
