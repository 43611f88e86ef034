// Products of matrices that do not fit the first-level cache. The second operand is cut into panels as wide as a
// register tile. Each panel is copied so that its rows follow one another, and multiplied by the whole first operand
// while it is in the second-level cache; the first operand is read in place. `done` works on the results while they are
// in the cache.
//
// With the 32 registers of AVX-512 this is faster than the BLAS that SciPy brings; with 16 it is not, and is not used.
#pragma once
#include "cpu/small_product.h"
#include "cpu/transposed.h"

#include <algorithm>
#include <cstring>

namespace panels {

#if defined(__AVX512F__)
const bool ARE_FASTER = true;
#else
const bool ARE_FASTER = false;
#endif
// Rows of the first operand from which copying the second pays.
const int64_t FEWEST_ROWS = 32;
// Rows of a panel: 256 KiB in float. They are prefetched so many rows ahead, from the second-level cache.
const int64_t DEPTH = 1024;
const int AHEAD = 8;

// Where there are few rows, the second operand is read in place too.
template <typename T, class Second = small_product::EvenRows<T>>
using InPlace = small_product::Product<T, AHEAD, small_product::Entries<T>, Second>;

template <typename T>
constexpr int64_t width() {
    return small_product::PANEL * small_product::WIDEST / int64_t(sizeof(T));
}

// Entries of memory that a panel needs.
template <typename T> constexpr int64_t room() { return DEPTH * width<T>(); }

// Copies `depth` rows from row k on, of `columns` columns from column j on, of a second operand.
template <typename T, class B>
void rearrange(const B& of, int64_t k, int64_t depth, int64_t j, int64_t columns, T* panel) {
    for (int64_t row = 0; row < depth; ++row)
        std::memcpy(panel + row * width<T>(), of.row(k + row) + j, columns * sizeof(T));
}

// A second operand (K, N) that is stored as its transpose (N, K), with rows `stride` apart.
template <typename T> struct Transposed {
    const T* entries;
    int64_t stride;

    friend void rearrange(const Transposed& of, int64_t k, int64_t depth, int64_t j, int64_t columns, T* panel) {
        transpose(of.entries + j * of.stride + k, of.stride, columns, depth, panel, width<T>());
    }
};

// C (M, N) := A B [+ bias (N,)]. Calls done(j, columns) as soon as columns j ... of C are computed. `panel` has
// room<T>() entries. Once `stopped`, the rest of C is not computed.
template <typename T, class First, class Second, class Stopped, class Done>
void multiply(int64_t M, int64_t N, int64_t K, const First& A, const Second& B, const T* bias, T* C, int64_t c_stride,
              T* panel, Stopped stopped, Done done) {
    for (int64_t j = 0; j < N; j += width<T>()) {
        const int64_t columns = std::min(width<T>(), N - j);
        for (int64_t k = 0; k < K; k += DEPTH) {
            if (stopped()) return;
            const int64_t depth = std::min(DEPTH, K - k);
            rearrange(B, k, depth, j, columns, panel);
            small_product::Product<T, AHEAD, First>{M, columns, depth, A.from_column(k), panel, width<T>(), T(1),
                                                    T(k != 0), k == 0 && bias ? bias + j : nullptr, C + j,
                                                    c_stride}();
        }
        done(j, columns);
    }
}

// Copies the transpose of A (K, M), with rows `a_stride` apart, into tiles of contiguous rows: M K entries.
template <typename T, class Stopped>
void rearrange_first(int64_t M, int64_t K, const T* A, int64_t a_stride, T* tiles, Stopped stopped) {
    const int64_t TILE = small_product::TILE, whole = M / TILE * TILE, rest = M - whole;
    for (int64_t k = 0; k < K; ++k, A += a_stride) {
        if (k % DEPTH == 0 && stopped()) return;
        for (int64_t i = 0; i < whole; i += TILE)
            std::memcpy(tiles + i * K + k * TILE, A + i, TILE * sizeof(T));  // of constant size: no call
        for (int64_t r = 0; r < rest; ++r) tiles[whole * K + k * rest + r] = A[whole + r];
    }
}

// C := alpha A^T B + beta C, for an A copied by the function above; where(j) is the address of column j.
// Once `stopped`, the rest of C is not computed.
template <typename T, class Second, class Where, class Stopped, class Done>
void multiply_rearranged(int64_t M, int64_t N, int64_t K, const T* tiles, const Second& B, T alpha, T beta,
                         Where where, int64_t c_stride, T* panel, Stopped stopped, Done done) {
    const int64_t TILE = small_product::TILE;
    for (int64_t j = 0; j < N; j += width<T>()) {
        const int64_t columns = std::min(width<T>(), N - j);
        T* C = where(j);
        for (int64_t k = 0; k < K; k += DEPTH) {
            if (stopped()) return;
            const int64_t depth = std::min(DEPTH, K - k);
            rearrange(B, k, depth, j, columns, panel);
            for (int64_t i = 0; i < M; i += TILE) {
                const int64_t rows = std::min(TILE, M - i);
                small_product::Product<T, AHEAD>{rows, columns, depth, tiles + i * K + k * rows, 1, rows, panel,
                                                 width<T>(), alpha, k == 0 ? beta : T(1), nullptr, C + i * c_stride,
                                                 c_stride}();
            }
        }
        done(j, columns);
    }
}

}  // namespace panels
