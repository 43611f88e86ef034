// Products of small matrices by register tiles, without packing: a BLAS would spend more time on preparation than on
// multiplying. The vector types are GCC's, which clang has too, as wide as the processor offers.
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace small_product {

#if defined(__AVX512F__)
const int WIDEST = 64, PANEL = 4;  // bytes of a vector, vectors in a row of a tile: a tile fits 32 registers
#elif defined(__AVX__)
const int WIDEST = 32, PANEL = 2;
#else
const int WIDEST = 16, PANEL = 2;
#endif
const int TILE = 6;  // rows of a tile

// A vector of so many entries, and as it is stored among others, where it may be unaligned. Local variables are of the
// first: a compiler that deduces a type forgets that it may be unaligned.
template <typename T, int LANES> struct Vector {
    typedef T type __attribute__((vector_size(LANES * sizeof(T))));
    typedef T stored __attribute__((vector_size(LANES * sizeof(T)), aligned(alignof(T)), may_alias));
};
template <typename T> struct Vector<T, 1> {
    typedef T type;
    typedef T stored;
};

// The vector stored at x and behind it.
template <int LANES, typename T> inline typename Vector<T, LANES>::stored& vector_at(T* x) {
    return *reinterpret_cast<typename Vector<T, LANES>::stored*>(x);
}
template <int LANES, typename T> inline const typename Vector<T, LANES>::stored& vector_at(const T* x) {
    return *reinterpret_cast<const typename Vector<T, LANES>::stored*>(x);
}

#if defined(__AVX512F__)
// Reads or writes the first entries of a vector, as many as the mask has bits; the others are 0, and not written.
inline __m512d load(const double* x, unsigned mask) { return _mm512_maskz_loadu_pd(__mmask8(mask), x); }
inline __m512 load(const float* x, unsigned mask) { return _mm512_maskz_loadu_ps(__mmask16(mask), x); }
inline void store(double* x, unsigned mask, __m512d value) { _mm512_mask_storeu_pd(x, __mmask8(mask), value); }
inline void store(float* x, unsigned mask, __m512 value) { _mm512_mask_storeu_ps(x, __mmask16(mask), value); }

// a b + c, rounded once. Of two products and a sum, the compiler would choose which product to round.
inline __m512d fused(__m512d a, __m512d b, __m512d c) { return _mm512_fmadd_pd(a, b, c); }
inline __m512 fused(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
#endif

#if defined(__AVX512VL__)
// The same of a vector half as wide. Some processors multiply two of these at a time.
inline __m256d load_half(const double* x, unsigned mask) { return _mm256_maskz_loadu_pd(__mmask8(mask), x); }
inline __m256 load_half(const float* x, unsigned mask) { return _mm256_maskz_loadu_ps(__mmask8(mask), x); }
inline void store(double* x, unsigned mask, __m256d value) { _mm256_mask_storeu_pd(x, __mmask8(mask), value); }
inline void store(float* x, unsigned mask, __m256 value) { _mm256_mask_storeu_ps(x, __mmask8(mask), value); }
inline __m256d fused(__m256d a, __m256d b, __m256d c) { return _mm256_fmadd_pd(a, b, c); }
inline __m256 fused(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
#endif

// An operand A (M, K): entries `row_step` and `column_step` apart. As a first operand it is gone through by a cursor
// along some rows at once, from row i on.
template <typename T> struct Entries {
    const T* entries;
    int64_t row_step, column_step;

    template <int ROWS> struct Cursor {
        const T* at;
        int64_t row, column;
        T operator[](int r) const { return at[r * row]; }
        void operator++() { at += column; }
    };
    template <int ROWS> Cursor<ROWS> from(int64_t i) const { return {entries + i * row_step, row_step, column_step}; }
    void prefetch(int64_t, int64_t, int64_t) const {}  // the processor sees how it goes on
    Entries from_column(int64_t k) const { return {entries + k * column_step, row_step, column_step}; }
};

// An operand with contiguous rows, `stride` apart. As a second operand B (K, N) it is walked through, row by row, from
// column j on; `ahead` is where a later row begins.
template <typename T> struct EvenRows {
    const T* entries;
    int64_t stride;

    template <int ROWS> auto from(int64_t i) const { return Entries<T>{entries, stride, 1}.template from<ROWS>(i); }
    void prefetch(int64_t, int64_t, int64_t) const {}

    struct Walk {
        const T* at;
        int64_t stride;
        const T* row() const { return at; }
        const T* ahead(int rows) const { return at + rows * stride; }
        void operator++() { at += stride; }
    };
    Walk walk(int64_t j, int64_t) const { return {entries + j, stride}; }

    const T* row(int64_t i) const { return entries + i * stride; }
    EvenRows from_row(int64_t i) const { return {row(i), stride}; }
    EvenRows from_column(int64_t j) const { return {entries + j, stride}; }
};

// An operand with contiguous rows that lie anywhere, such as some samples among all; from a column of them on.
template <typename T> struct ScatteredRows {
    const T* const* rows;
    int64_t column, stride;  // how far apart they are, if they are even

    template <int ROWS> struct Cursor {
        const T* at[ROWS];
        int64_t k;
        T operator[](int r) const { return at[r][k]; }
        void operator++() { ++k; }
    };
    template <int ROWS> Cursor<ROWS> from(int64_t i) const {
        Cursor<ROWS> all;
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) all.at[r] = rows[i + r];
        all.k = column;
        return all;
    }

    // Asks for so many entries of rows `first` to `last`, where they are so short that the processor does not. GCC
    // takes a function that only prefetches for one that does nothing, unless it is inlined.
    __attribute__((always_inline)) void prefetch(int64_t first, int64_t last, int64_t count) const {
        const int64_t A_LINE = 64 / int64_t(sizeof(T)), LONG = 16 * A_LINE;
        if (count > LONG) return;
        for (int64_t i = first; i < last; ++i)
            for (int64_t k = 0; k < count; k += A_LINE) __builtin_prefetch(rows[i] + column + k, 0, 2);
    }

    struct Walk {
        const T *const *at, *const *last;
        int64_t column;
        const T* row() const { return *at + column; }
        const T* ahead(int rows) const { return *std::min(at + rows, last) + column; }
        void operator++() { ++at; }
    };
    Walk walk(int64_t j, int64_t count) const { return {rows, rows + count - 1, column + j}; }

    const T* row(int64_t i) const { return rows[i] + column; }
    ScatteredRows from_row(int64_t i) const { return {rows + i, column, stride}; }
    ScatteredRows from_column(int64_t j) const { return {rows, column + j, stride}; }
};

// alpha sum + beta c: the same numbers, whether a column stands in a whole vector or in the last part of one.
template <typename T, class V> inline V scaled_sum(T alpha, V sum, T beta, V c) {
#if defined(__AVX512F__)
    const V zero = {};
    return fused(alpha + zero, sum, beta * c);
#else
    return alpha * sum + beta * c;
#endif
}

// C (M, N) := alpha A B + beta C or, with a bias (N,), A B + bias. Rows of C are contiguous, `c_stride` apart. If B
// does not fit the first-level cache, its rows are prefetched `AHEAD` rows before they are needed.
template <typename T, int AHEAD = 0, class First = Entries<T>, class Second = EvenRows<T>> struct Product {
    int64_t M, N, K;
    First A;
    Second B;
    T alpha, beta;
    const T* bias;
    T* C;
    int64_t c_stride;

    void operator()() const { columns<WIDEST / int(sizeof(T))>(0); }

private:
    template <int COUNT> using Rows = std::integral_constant<int, COUNT>;

    template <int LANES> void columns(int64_t j) const {
        for (; N - j >= PANEL * LANES; j += PANEL * LANES) rows<LANES, PANEL>(j);
        if (PANEL > 2)
            for (; N - j >= 2 * LANES; j += 2 * LANES) rows<LANES, 2>(j);
        for (; N - j >= LANES; j += LANES) rows<LANES, 1>(j);
        if (j == N) return;
#if defined(__AVX512F__)
        const unsigned mask = (1u << (N - j)) - 1;
#if defined(__AVX512VL__)
        if (N - j <= LANES / 2) return last_columns(j, mask, [mask](const T* x) { return load_half(x, mask); });
#endif
        last_columns(j, mask, [mask](const T* x) { return load(x, mask); });
#else
        if constexpr (LANES > 1) columns<LANES / 2>(j);
#endif
    }

#if defined(__AVX512F__)
    // The columns from j on, fewer than a vector has entries: as many as the mask has bits, and as `read` reads.
    template <class Read> void last_columns(int64_t j, unsigned mask, Read read) const {
        each_tile([&](int64_t i, auto rows) { last_tile<decltype(rows)::value>(i, j, mask, read); });
    }
    template <int ROWS, class Read> void last_tile(int64_t i, int64_t j, unsigned mask, Read read) const {
        typedef decltype(read(C)) vector;
        vector sums[ROWS] = {};
        auto a = A.template from<ROWS>(i);
        auto b = B.walk(j, K);
        for (int64_t k = 0; k < K; ++k, ++a, ++b) {
            const vector of_b = read(b.row());
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; ++r) sums[r] += a[r] * of_b;
        }
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
            T* c = C + (i + r) * c_stride + j;
            if (bias) store(c, mask, sums[r] + read(bias + j));
            else if (beta == T(0)) store(c, mask, alpha * sums[r]);
            else store(c, mask, scaled_sum(alpha, sums[r], beta, read(c)));
        }
    }
#endif

    // do_tile(i, rows) for tiles of all rows; `rows` is a constant.
    template <class Do> void each_tile(Do do_tile) const {
        int64_t i = 0;
        for (; M - i >= TILE; i += TILE) do_tile(i, Rows<TILE>());
        switch (M - i) {
            case 5: return do_tile(i, Rows<5>());
            case 4: return do_tile(i, Rows<4>());
            case 3: return do_tile(i, Rows<3>());
            case 2: return do_tile(i, Rows<2>());
            case 1: return do_tile(i, Rows<1>());
        }
    }

    template <int LANES, int VECTORS> void rows(int64_t j) const {
        each_tile([&](int64_t i, auto rows) {
            const int ROWS = decltype(rows)::value;
            if (j == 0 && ROWS == TILE) A.prefetch(i + TILE, std::min(i + 2 * TILE, M), K);
            tile<LANES, VECTORS, ROWS>(i, j);
        });
    }

    template <int LANES, int VECTORS, int ROWS> void tile(int64_t i, int64_t j) const {
        typedef typename Vector<T, LANES>::type vector;
        typedef typename Vector<T, LANES>::stored stored;
        vector sums[ROWS][VECTORS] = {};
        auto a = A.template from<ROWS>(i);
        auto b = B.walk(j, K);
        for (int64_t k = 0; k < K; ++k, ++a, ++b) {
            if (AHEAD)
                for (int v = 0; v < VECTORS; ++v) __builtin_prefetch(b.ahead(AHEAD) + v * LANES);
            vector of_b[VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) of_b[v] = vector_at<LANES>(b.row() + v * LANES);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; ++r) {
                const T of_a = a[r];
#pragma GCC unroll 8
                for (int v = 0; v < VECTORS; ++v) sums[r][v] += of_a * of_b[v];
            }
        }
        // One choice a tile: with short products, writing is a good part of the work.
        const auto write = [&](auto of) {
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
                for (int v = 0; v < VECTORS; ++v) {
                    stored& c = vector_at<LANES>(C + (i + r) * c_stride + j + v * LANES);
                    c = of(sums[r][v], c, v);
                }
            }
        };
        if (bias) {
            const T* own = bias + j;
            write([own](vector sum, const stored&, int v) -> vector {
                return sum + vector_at<LANES>(own + v * LANES);
            });
        } else if (beta != T(0)) {
            write([this](vector sum, const stored& c, int) { return scaled_sum<T, vector>(alpha, sum, beta, c); });
        } else if (alpha != T(1)) {
            write([this](vector sum, const stored&, int) -> vector { return alpha * sum; });
        } else {
            write([](vector sum, const stored&, int) { return sum; });
        }
    }
};

}  // namespace small_product
