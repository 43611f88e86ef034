// Writes a row of an array in 16 bits, filled up with zeros: see padding.py.
#pragma once
#include "cuda/pack.cuh"
#include "cuda/real.cuh"

// to[i] = f(from[i]) for i < columns, and f(0) for the rest of to_columns, a multiple of 8. `to` begins at a multiple
// of 16 bytes; `packed` says whether `from` does. Each thread takes 8 entries at a time.
template <class F>
__device__ inline void narrow_row(const real* from, unsigned short* to, int columns, int to_columns, int thread,
                                  int threads, bool packed, F f) {
    constexpr int N = 8;
#pragma unroll 2
    for (int column = thread * N; column < to_columns; column += threads * N) {
        Pack<real, N> read = {};
        if (packed && column + N <= columns) {
            read = load_pack<real, N>(from + column);
        } else {
            for (int j = 0; j < N; ++j)
                if (column + j < columns) read.entry[j] = from[column + j];
        }
        Pack<unsigned short, N> own;
        for (int j = 0; j < N; ++j) own.entry[j] = f(read.entry[j]);
        store_pack<unsigned short, N>(to + column, own);
    }
}
