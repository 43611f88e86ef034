// Products of a matrix with the transpose of another, both read in place: entries are dot products of rows. Nothing is
// rearranged, which pays where there are few rows. For more, tiles of a rearranged matrix (small_product.h) are faster.
#pragma once
#include "cpu/small_product.h"

#include <algorithm>
#include <cstdint>

namespace dot_product {

#if defined(__AVX512F__)
// Whether it is faster than a BLAS: only with 32 registers.
const bool IS_FASTER = true;

// Each step adds the halves of two vectors, and makes one of them. So the lanes of all vectors are added up at once.
// A shuffle takes lanes 0 and 2 of both vectors, or lanes 1 and 3; lanes may be several entries wide.
constexpr int EVEN = 0x88, ODD = 0xDD;

template <typename T> struct Steps;

template <> struct Steps<float> {
    typedef __m512 vector;
    static constexpr int COUNT = 4, LANE[COUNT] = {4, 8, 1, 2};  // what a step adds to the lane of its second vector
    template <int STEP> static vector add(vector a, vector b) {
        if constexpr (STEP < 2) return _mm512_shuffle_f32x4(a, b, EVEN) + _mm512_shuffle_f32x4(a, b, ODD);
        else return _mm512_shuffle_ps(a, b, EVEN) + _mm512_shuffle_ps(a, b, ODD);
    }
};

template <> struct Steps<double> {
    typedef __m512d vector;
    static constexpr int COUNT = 3, LANE[COUNT] = {2, 4, 1};
    template <int STEP> static vector add(vector a, vector b) {
        if constexpr (STEP < 2) return _mm512_shuffle_f64x2(a, b, EVEN) + _mm512_shuffle_f64x2(a, b, ODD);
        else return _mm512_unpacklo_pd(a, b) + _mm512_unpackhi_pd(a, b);
    }
};

// The sums over the lanes of N vectors, N a power of 2 and at most the number of lanes.
template <typename T, int N> struct Sums {
    typedef Steps<T> Step;
    typedef typename Step::vector vector;
    static constexpr int LANES = int(64 / sizeof(T));

    // The i-th sum adds up vector number[i], and is in lane[i] of the result: where there is a vector for each lane,
    // in the order of the lanes.
    struct Places { int number[N], lane[N]; };
    static constexpr Places PLACES = [] {
        Places places{};
        for (int v = 0; v < N; ++v) {
            int lane = 0;
            for (int step = 0, half = N / 2; half > 0; ++step, half /= 2) lane += v & half ? Step::LANE[step] : 0;
            const int i = N == LANES ? lane : v;
            places.number[i] = v, places.lane[i] = lane;
        }
        return places;
    }();

    template <int STEP = 0, int LEFT = N> static vector add_up(vector* v) {
        if constexpr (STEP == Step::COUNT) return v[0];
        else {
            constexpr int HALF = LEFT > 1 ? LEFT / 2 : 1;
#pragma GCC unroll 8
            for (int i = 0; i < HALF; ++i) v[i] = Step::template add<STEP>(v[i], v[LEFT > 1 ? i + HALF : i]);
            return add_up<STEP + 1, HALF>(v);
        }
    }
};
#else
const bool IS_FASTER = false;
#endif

// C (M, N) := A B^T + bias; A (M, K) has contiguous rows, see small_product.h. The rows of B (N, K) and of C are
// contiguous, so many entries apart; bias is (N,).
template <typename T, class Operand = small_product::EvenRows<T>> struct Product {
    int64_t M, N, K;
    Operand A;
    const T* B;
    int64_t b_stride;
    const T* bias;
    T* C;
    int64_t c_stride;

    void operator()() const {
        int64_t i = 0;
#if defined(__AVX512F__)
        // No tile of a single row, where that can be.
        for (; M - i >= 4 && M - i != 5; i += 4) columns<4, 4>(i);
        if (M - i == 3 || M - i == 5) columns<3, 4>(i), i += 3;
        if (M - i == 2) columns<2, 4>(i), i += 2;
        if (M - i == 1) columns<1, LANES, 8>(i);
#else
        for (; M - i >= 4; i += 4) columns<4, 4>(i);
        for (; i < M; ++i) columns<1, 8>(i);
#endif
    }

private:
    static constexpr int LANES = small_product::WIDEST / int(sizeof(T));
    typedef typename small_product::Vector<T, LANES>::type vector;

    // Tiles of some rows, with so many columns or, where fewer are left, as many as the next number says, or with one.
    template <int ROWS, int COLUMNS, int... FEWER> void columns(int64_t i, int64_t j = 0) const {
        for (; N - j >= COLUMNS; j += COLUMNS) tile<ROWS, COLUMNS>(i, j);
        if constexpr (sizeof...(FEWER) > 0) columns<ROWS, FEWER...>(i, j);
        else
            for (; j < N; ++j) tile<ROWS, 1>(i, j);
    }

    template <int ROWS, int COLUMNS> void tile(int64_t i, int64_t j) const {
        vector sums[ROWS][COLUMNS] = {};
        const T *a[ROWS], *b = B + j * b_stride;
        for (int r = 0; r < ROWS; ++r) a[r] = A.row(i + r);
        int64_t k = 0;
        const auto add = [&](auto load) {
            constexpr bool HELD = IS_FASTER;  // with 16 registers, operands are read from memory
            vector of_a[ROWS];
#pragma GCC unroll 8
            for (int r = 0; r < ROWS && HELD; ++r) of_a[r] = load(a[r] + k);
#pragma GCC unroll 16
            for (int c = 0; c < COLUMNS; ++c) {
                const vector of_b = load(b + c * b_stride + k);
#pragma GCC unroll 8
                for (int r = 0; r < ROWS; ++r) sums[r][c] += (HELD ? of_a[r] : load(a[r] + k)) * of_b;
            }
        };
        for (; K - k >= LANES; k += LANES)
            add([](const T* x) -> vector { return small_product::vector_at<LANES>(x); });
        T* out = C + i * c_stride + j;
#if defined(__AVX512F__)
        if (k < K) {
            const unsigned mask = (1u << (K - k)) - 1;
            add([mask](const T* x) -> vector { return small_product::load(x, mask); });
        }
        constexpr int ENTRIES = ROWS * COLUMNS;
        constexpr int AT_ONCE = std::min(LANES, ENTRIES == 3 ? 4 : ENTRIES == 12 ? 16 : ENTRIES);
        typedef Sums<T, AT_ONCE> Added;
#pragma GCC unroll 2
        for (int first = 0; first < ENTRIES; first += AT_ONCE) {
            typename Added::vector own[AT_ONCE] = {};
#pragma GCC unroll 16
            for (int e = 0; e < AT_ONCE; ++e)
                if (first + e < ENTRIES)
                    own[Added::PLACES.number[e]] = sums[(first + e) / COLUMNS % ROWS][(first + e) % COLUMNS];
            T entries[LANES];
            small_product::vector_at<LANES>(entries) = Added::add_up(own);
#pragma GCC unroll 16
            for (int e = 0; e < AT_ONCE; ++e) {
                const int r = (first + e) / COLUMNS, c = (first + e) % COLUMNS;
                if (r < ROWS) out[r * c_stride + c] = entries[Added::PLACES.lane[e]] + bias[j + c];
            }
        }
#else
        for (int c = 0; c < COLUMNS; ++c)
            for (int r = 0; r < ROWS; ++r) {
                T sum = bias[j + c];
                for (int lane = 0; lane < LANES; ++lane) sum += sums[r][c][lane];
                for (int64_t rest = k; rest < K; ++rest) sum += a[r][rest] * b[c * b_stride + rest];
                out[r * c_stride + c] = sum;
            }
#endif
    }
};

}  // namespace dot_product
