// Writes a row of an array in 16 bits, filled up with zeros: see padding.py.
#pragma once
#include "cuda/pack.cuh"
#include "cuda/real.cuh"

// entry[j] = from[column + j] for the columns of the row, 0 for others. A whole pack is read at once if `packed`.
template <int N>
__device__ inline Pack<real, N> read_columns(const real* from, int column, int columns, bool packed) {
    if (packed && column + N <= columns) return load_pack<real, N>(from + column);
    Pack<real, N> read = {};
    for (int j = 0; j < N; ++j)
        if (column + j < columns) read.entry[j] = from[column + j];
    return read;
}

// to[i] and to[i + 1] are the halves of the word f(from[i], from[i + 1]), for even i < columns; f takes 0 for what is
// beyond, up to to_columns, a multiple of 8. `to` begins at a multiple of 16 bytes; `packed` says whether `from` does.
// Each thread takes 8 entries at a time and has several such packs on their way. They are stored as words: the compiler
// would store 16-bit entries one by one.
template <class F>
__device__ inline void narrow_row(const real* from, unsigned short* to, int columns, int to_columns, int thread,
                                  int threads, bool packed, F f) {
    constexpr int N = 8, IN_FLIGHT = 2;
#pragma unroll 1
    for (int column = thread * N; column < to_columns; column += IN_FLIGHT * threads * N) {
        Pack<real, N> read[IN_FLIGHT];
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u)
            if (column + u * threads * N < to_columns)
                read[u] = read_columns<N>(from, column + u * threads * N, columns, packed);
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u) {
            if (column + u * threads * N >= to_columns) continue;
            Pack<unsigned, N / 2> pairs;
            for (int i = 0; i < N / 2; ++i) pairs.entry[i] = f(read[u].entry[2 * i], read[u].entry[2 * i + 1]);
            store_pack<unsigned, N / 2>(reinterpret_cast<unsigned*>(to + column + u * threads * N), pairs);
        }
    }
}
