// The transpose of a matrix.
#pragma once
#include "cpu/small_product.h"

#include <algorithm>
#include <cstdint>

namespace transposed {

const int SIDE_BYTES = 64;

// A few entries, one by one.
template <typename T>
void entries(const T* A, int64_t a_stride, int64_t rows, int64_t columns, T* B, int64_t b_stride) {
    for (int64_t j = 0; j < columns; ++j)
#pragma GCC ivdep
        for (int64_t i = 0; i < rows; ++i) B[j * b_stride + i] = A[i * a_stride + j];
}

#if defined(__AVX512F__)
// Rows `first` and `second` in turn: entry 0 of both, entry 1 of both, and so on; of their first or their last halves.
inline __m512 interleaved(__m512 first, __m512 second, bool last) {
    const __m512i places = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(first, _mm512_add_epi32(places, _mm512_set1_epi32(last ? 8 : 0)), second);
}
inline __m512d interleaved(__m512d first, __m512d second, bool last) {
    const __m512i places = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    return _mm512_permutex2var_pd(first, _mm512_add_epi64(places, _mm512_set1_epi64(last ? 4 : 0)), second);
}

// A square of as many rows as a vector has entries, or what there is of one. Interleaving each row of its upper half
// with one of its lower half moves the first bit of the row's number behind the bits of the column's number; when all
// bits of the one have become bits of the other, the square is transposed.
template <typename T, bool WHOLE>
void square(const T* A, int64_t a_stride, int rows, int columns, T* B, int64_t b_stride) {
    constexpr int N = SIDE_BYTES / int(sizeof(T));
    typedef decltype(small_product::load(A, 0u)) vector;
    const unsigned of_row = (1u << columns) - 1, of_column = (1u << rows) - 1, all = (1u << N) - 1;
    vector lines[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i)
        if (WHOLE || i < rows) lines[i] = small_product::load(A + i * a_stride, WHOLE ? all : of_row);
        else lines[i] = vector{};
#pragma GCC unroll 4
    for (int bits = N; bits > 1; bits /= 2) {
        vector next[N];
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) next[i] = interleaved(lines[i / 2], lines[i / 2 + N / 2], i % 2 != 0);
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) lines[i] = next[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i)
        if (WHOLE || i < columns) small_product::store(B + i * b_stride, WHOLE ? all : of_column, lines[i]);
}
#else
template <typename T, bool WHOLE>
void square(const T* A, int64_t a_stride, int rows, int columns, T* B, int64_t b_stride) {
    constexpr int N = SIDE_BYTES / int(sizeof(T));
    if (WHOLE) entries(A, a_stride, N, N, B, b_stride);  // constant bounds
    else entries(A, a_stride, rows, columns, B, b_stride);
}
#endif

}  // namespace transposed

// B (columns, rows) := A^T, A (rows, columns); their rows are `a_stride` and `b_stride` apart.
template <typename T>
void transpose(const T* A, int64_t a_stride, int64_t rows, int64_t columns, T* B, int64_t b_stride) {
    const int64_t SIDE = transposed::SIDE_BYTES / int64_t(sizeof(T)), FEW = SIDE / 4;
    if (rows <= FEW || columns <= FEW) return transposed::entries(A, a_stride, rows, columns, B, b_stride);
    for (int64_t i = 0; i < rows; i += SIDE)
        for (int64_t j = 0; j < columns; j += SIDE) {
            const T* from = A + i * a_stride + j;
            T* to = B + j * b_stride + i;
            const int high = int(std::min(SIDE, rows - i)), wide = int(std::min(SIDE, columns - j));
            if (high == SIDE && wide == SIDE) transposed::square<T, true>(from, a_stride, high, wide, to, b_stride);
            else transposed::square<T, false>(from, a_stride, high, wide, to, b_stride);
        }
}
