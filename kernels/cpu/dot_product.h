// Products of a matrix with the transpose of another, both read in place: entries are dot products of rows. Nothing is
// rearranged, which pays where the rows are long and there are few of them.
//
// It needs the registers of AVX-512; without them it is not used.
#pragma once
#include <algorithm>
#include <cstdint>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace dot_product {

#if defined(__AVX512F__)
const bool IS_FASTER = true;
const int TILE = 4;  // rows and columns of a tile

// Sums over the lanes of vectors. `add_up` takes COUNT of them, and its result has the sum of vector
// number(row, column) at lane row * TILE + column. Each of its steps adds the halves of two vectors, and makes one of
// them.
template <typename T> struct Lanes;

template <> struct Lanes<float> {
    typedef __m512 vector;
    static const int COUNT = 16;
    static vector load(const float* x, unsigned mask) { return _mm512_maskz_loadu_ps(__mmask16(mask), x); }
    static constexpr int number(int row, int column) { return 8 * (row & 1) + 4 * (row >> 1) + reversed(column); }
    static vector add_up(const vector* v) {
        vector a[8], b[4], c[2];
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) a[i] = quads(v[i], v[i + 8]);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) b[i] = quads(a[i], a[i + 4]);
        for (int i = 0; i < 2; ++i) c[i] = within(b[i], b[i + 2]);
        return within(c[0], c[1]);
    }

private:
    static constexpr int reversed(int two_bits) { return 2 * (two_bits & 1) + (two_bits >> 1); }
    static vector quads(vector a, vector b) {
        return _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xDD);
    }
    static vector within(vector a, vector b) {
        return _mm512_shuffle_ps(a, b, 0x88) + _mm512_shuffle_ps(a, b, 0xDD);
    }
};

template <> struct Lanes<double> {
    typedef __m512d vector;
    static const int COUNT = 8;
    static vector load(const double* x, unsigned mask) { return _mm512_maskz_loadu_pd(__mmask8(mask), x); }
    static constexpr int number(int row, int column) { return 2 * row + 4 * (column >> 1) + (column & 1); }
    static vector add_up(const vector* v) {
        vector a[4], b[2];
        for (int i = 0; i < 4; ++i) a[i] = quads(v[i], v[i + 4]);
        for (int i = 0; i < 2; ++i) b[i] = quads(a[i], a[i + 2]);
        return _mm512_unpacklo_pd(b[0], b[1]) + _mm512_unpackhi_pd(b[0], b[1]);
    }

private:
    static vector quads(vector a, vector b) {
        return _mm512_shuffle_f64x2(a, b, 0x88) + _mm512_shuffle_f64x2(a, b, 0xDD);
    }
};

// C (M, N) := A B^T + bias; A (M, K) has contiguous rows, see small_product.h. The rows of B (N, K) and of C are
// contiguous, so many entries apart; bias is (N,).
template <typename T, class First> struct Product {
    int64_t M, N, K;
    First A;
    const T* B;
    int64_t b_stride;
    const T* bias;
    T* C;
    int64_t c_stride;

    void operator()() const {
        for (int64_t i = 0; i < M;) {
            const int64_t rest = M - i;
            // No tile of a single row, where that can be.
            const int64_t rows = rest == TILE + 1 ? TILE - 1 : std::min<int64_t>(rest, TILE);
            for (int64_t j = 0; j < N; j += TILE) {
                if (rows == 4) tile<4>(i, j);
                else if (rows == 3) tile<3>(i, j);
                else if (rows == 2) tile<2>(i, j);
                else tile<1>(i, j);
            }
            i += rows;
        }
    }

private:
    typedef typename Lanes<T>::vector vector;

    template <int ROWS> void tile(int64_t i, int64_t j) const {
        const int LANES = int(64 / sizeof(T));
        const int AT_ONCE = Lanes<T>::COUNT / TILE;  // rows whose sums are added up together
        vector sums[ROWS][TILE] = {};
        const int columns = int(std::min<int64_t>(TILE, N - j));
        const T *a[ROWS], *b[TILE];
        for (int r = 0; r < ROWS; ++r) a[r] = A.row(i + r);
        for (int c = 0; c < TILE; ++c) b[c] = B + (j + std::min(c, columns - 1)) * b_stride;  // the last again
        for (int64_t k = 0; k < K; k += LANES) {
            const unsigned mask = K - k >= LANES ? ~0u : (1u << (K - k)) - 1;
            vector of_b[TILE];
#pragma GCC unroll 4
            for (int c = 0; c < TILE; ++c) of_b[c] = Lanes<T>::load(b[c] + k, mask);
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; ++r) {
                const vector of_a = Lanes<T>::load(a[r] + k, mask);
#pragma GCC unroll 4
                for (int c = 0; c < TILE; ++c) sums[r][c] += of_a * of_b[c];
            }
        }
        T entries[TILE * TILE];
#pragma GCC unroll 2
        for (int first = 0; first < TILE; first += AT_ONCE) {
            vector own[Lanes<T>::COUNT] = {};
#pragma GCC unroll 4
            for (int r = 0; r < AT_ONCE; ++r)
#pragma GCC unroll 4
                for (int c = 0; c < TILE; ++c)
                    if (first + r < ROWS) own[Lanes<T>::number(r, c)] = sums[(first + r) % ROWS][c];
            reinterpret_cast<Unaligned*>(entries + first * TILE)->value = Lanes<T>::add_up(own);
        }
        for (int r = 0; r < ROWS; ++r)
            for (int c = 0; c < columns; ++c) C[(i + r) * c_stride + j + c] = entries[r * TILE + c] + bias[j + c];
    }

    struct __attribute__((packed, may_alias)) Unaligned { vector value; };
};
#else
const bool IS_FASTER = false;
template <typename T, class First> struct Product;
#endif

}  // namespace dot_product
