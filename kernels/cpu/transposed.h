// The transpose of a matrix.
#pragma once
#include <cstdint>

// B (columns, rows) := A^T, A (rows, columns); their rows are `a_stride` and `b_stride` apart. Of each row of A a cache
// line is read at a time, and the rows of B are written from their beginning to their end.
template <typename T>
void transpose(const T* A, int64_t a_stride, int64_t rows, int64_t columns, T* B, int64_t b_stride) {
    const int64_t AT_ONCE = 16;
    int64_t j = 0;
    for (; columns - j >= AT_ONCE; j += AT_ONCE)
        for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 16
            for (int64_t k = 0; k < AT_ONCE; ++k) B[(j + k) * b_stride + i] = A[i * a_stride + j + k];
    for (; j < columns; ++j)
#pragma GCC ivdep
        for (int64_t i = 0; i < rows; ++i) B[j * b_stride + i] = A[i * a_stride + j];
}
