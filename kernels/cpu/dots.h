// Products with the transpose of a matrix as it stands, for a few rows: each entry is the dot product of two rows, so
// nothing has to be rearranged first. For more rows, tiles of a rearranged matrix (small_product.h) are faster.
#pragma once
#include "cpu/small_product.h"

#include <cstdint>

namespace dots {

#if defined(__AVX512F__)
inline double total(__m512d x) { return _mm512_reduce_add_pd(x); }
inline float total(__m512 x) { return _mm512_reduce_add_ps(x); }
#endif

// C (M, N) := A (M, K) B^T + bias (N,); rows of A, of B (N, K) and of C follow one another.
template <typename T> struct Product {
    int64_t M, N, K;
    const T *A, *B, *bias;
    T* C;

    void operator()() const {
        int64_t i = 0;
        for (; M - i >= 4; i += 4) units<4, 4>(i);
        for (; i < M; ++i) units<1, 8>(i);
    }

private:
    static constexpr int LANES = small_product::WIDEST / int(sizeof(T));

    template <int ROWS, int UNITS> void units(int64_t i) const {
        int64_t j = 0;
        for (; N - j >= UNITS; j += UNITS) tile<ROWS, UNITS>(i, j);
        for (; j < N; ++j) tile<ROWS, 1>(i, j);
    }

    template <int ROWS, int UNITS> void tile(int64_t i, int64_t j) const {
        typedef typename small_product::Vector<T, LANES>::type vector;
        vector sums[ROWS][UNITS] = {};
        const T *a = A + i * K, *b = B + j * K;
        int64_t k = 0;
        const auto add = [&](auto of_a, auto of_b) {
#pragma GCC unroll 8
            for (int u = 0; u < UNITS; ++u) {
                const vector own = of_b(b + u * K + k);
#pragma GCC unroll 8
                for (int r = 0; r < ROWS; ++r) sums[r][u] += of_a(a + r * K + k) * own;
            }
        };
        const auto whole = [](const T* x) -> vector { return *reinterpret_cast<const vector*>(x); };
        for (; K - k >= LANES; k += LANES) add(whole, whole);
#if defined(__AVX512F__)
        if (k < K) {
            const unsigned mask = (1u << (K - k)) - 1;
            const auto part = [mask](const T* x) -> vector { return small_product::load(x, mask); };
            add(part, part);
        }
#pragma GCC unroll 8
        for (int u = 0; u < UNITS; ++u)
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; ++r) C[(i + r) * N + j + u] = total(sums[r][u]) + bias[j + u];
#else
        for (int u = 0; u < UNITS; ++u)
            for (int r = 0; r < ROWS; ++r) {
                T sum = bias[j + u];
                for (int lane = 0; lane < LANES; ++lane) sum += sums[r][u][lane];
                for (int64_t rest = k; rest < K; ++rest) sum += a[r * K + rest] * b[u * K + rest];
                C[(i + r) * N + j + u] = sum;
            }
#endif
    }
};

}  // namespace dots
