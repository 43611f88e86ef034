// Packs of N entries of an array of `storage`, with which arithmetic is done in `real`.
//
// Two entries of bfloat16 lie in a word: one instruction rounds both, and packs move as words. The compiler may store a
// pack of 16-bit entries one by one.
#pragma once
#include "cuda/bfloat16.cuh"
#include "cuda/pack.cuh"
#include "cuda/real.cuh"

template <int N> struct Bfloat16Pack {
    Pack<unsigned, N / 2> pairs;

    __device__ real entry(int j) const { return from_bfloat16_pair(pairs.entry[j / 2], j % 2 == 1); }
    __device__ void round(const Pack<real, N>& x) {
        for (int i = 0; i < N / 2; ++i)
            pairs.entry[i] = to_bfloat16_pair(float(x.entry[2 * i]), float(x.entry[2 * i + 1]));
    }
};
template <> struct Bfloat16Pack<1> {
    unsigned short own;

    __device__ real entry(int) const { return from_bfloat16(own); }
    __device__ void round(const Pack<real, 1>& x) { own = to_bfloat16(float(x.entry[0])); }
};

#ifdef DELTAPROP_BFLOAT16
template <int N> using StoredPack = Bfloat16Pack<N>;
#else
template <int N> struct StoredPack {
    Pack<storage, N> own;

    __device__ real entry(int j) const { return load(own.entry[j]); }
    __device__ void round(const Pack<real, N>& x) {
        for (int j = 0; j < N; ++j) own.entry[j] = store(x.entry[j]);
    }
};
#endif

template <int N> __device__ inline StoredPack<N> load_stored(const storage* from) {
    return *reinterpret_cast<const StoredPack<N>*>(from);
}
// Writes x rounded to `storage`, or to bfloat16 in any case.
template <int N, class Rounded = StoredPack<N>, typename T>
__device__ inline void store_rounded(T* to, const Pack<real, N>& x) {
    Rounded rounded;
    rounded.round(x);
    *reinterpret_cast<Rounded*>(to) = rounded;
}
