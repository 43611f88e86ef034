// Pieces of matrices in the registers of a warp: how its lanes read them, and how they add up their sums.
// For products so small that a launch costs as much as they do; see small_forward.cu, small_delta.cu,
// small_gradient.cu.
#pragma once
#include "cuda/pack.cuh"
#include "cuda/real.cuh"

__device__ inline real as_real(real x) { return x; }
#if defined(DELTAPROP_HALF) || defined(DELTAPROP_BFLOAT16)
__device__ inline real as_real(storage x) { return load(x); }
#endif

// Says, as a type, whether every row of a matrix begins at a multiple of four entries. The compiler knows it, so no
// branch stands between one access and the next.
template <bool PACKED> struct Rows {
    static constexpr bool packed = PACKED;
};

// Calls f(Rows<packed>{}), so that f is compiled for both cases.
template <class F> __device__ inline void by_packing(bool packed, F f) {
    if (packed) f(Rows<true>{});
    else f(Rows<false>{});
}

// Reads four neighbouring entries; only the first `count` exist. The others are 0 or, if the row is packed and so read
// in one access, the padding: a finite number, which goes into no result.
template <bool PACKED, typename T>
__device__ inline void load_four(Rows<PACKED>, const T* from, int count, real (&to)[4]) {
    if (PACKED) {
        Pack<T, 4> pack = {};
        if (count > 0) pack = load_pack<T, 4>(from);
        for (int j = 0; j < 4; ++j) to[j] = as_real(pack.entry[j]);
    } else {
        for (int j = 0; j < 4; ++j) to[j] = j < count ? as_real(from[j]) : real(0);
    }
}

// Reads N columns from `column` on, in rows k ... k + 3 of x, (length, width), whose rows are `columns` apart.
template <int N, bool PACKED, typename T>
__device__ inline void load_rows(Rows<PACKED> packed, const T* x, int k, int length, int column, int width, int columns,
                                 real (&to)[4][N / 4][4]) {
    for (int q = 0; q < 4; ++q)
        for (int part = 0; part < N / 4; ++part)
            load_four(packed, x + (long long)(k + q) * columns + column + 4 * part,
                      k + q < length ? width - column - 4 * part : 0, to[q][part]);
}

__device__ inline real as_stored(real x, real) { return x; }
#if defined(DELTAPROP_HALF) || defined(DELTAPROP_BFLOAT16)
__device__ inline storage as_stored(real x, storage) { return store(x); }
#endif

template <bool PACKED, typename T>
__device__ inline void store_four(Rows<PACKED>, T* to, int count, const real (&from)[4]) {
    if (PACKED) {
        Pack<T, 4> pack;
        for (int j = 0; j < 4; ++j) pack.entry[j] = as_stored(from[j], T());
        if (count > 0) store_pack<T, 4>(to, pack);
    } else {
        for (int j = 0; j < 4; ++j)
            if (j < count) to[j] = as_stored(from[j], T());
    }
}

// Adds up N sums over the 32 lanes, N a power of two: lane i gets the totals of entries i N/32 ... (i + 1) N/32 - 1 at
// the front of `sum`, or, if N < 32, the total of entry i / (32/N). In each turn a lane gives away half of its entries.
template <int LEFT, int DISTANCE, int N> __device__ inline void add_lanes_from(real (&sum)[N]) {
    if constexpr (DISTANCE > 0) {
        constexpr int half = LEFT > 1 ? LEFT / 2 : 1;
        const bool upper = threadIdx.x & DISTANCE;
        for (int i = 0; i < half; ++i) {
            if (LEFT == 1) {
                sum[0] += __shfl_xor_sync(0xffffffffu, sum[0], DISTANCE);
            } else {
                const real sent = upper ? sum[i] : sum[i + half], kept = upper ? sum[i + half] : sum[i];
                sum[i] = kept + __shfl_xor_sync(0xffffffffu, sent, DISTANCE);
            }
        }
        add_lanes_from<half, DISTANCE / 2>(sum);
    }
}
template <int N> __device__ inline void add_lanes(real (&sum)[N]) { add_lanes_from<N, 16>(sum); }

// Row or column `i` of `n`, or the last one: a tile that sticks out reads it, but uses no result of it.
__device__ inline int within(int i, int n) { return i < n ? i : n - 1; }
