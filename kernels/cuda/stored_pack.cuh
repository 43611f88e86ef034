// Packs of N entries of an array of `storage`, with which arithmetic is done in `real`.
//
// Two entries of bfloat16 lie in a word: one instruction rounds both, and packs move as words. The compiler may store a
// pack of 16-bit entries one by one.
#pragma once
#include "cuda/pack.cuh"
#include "cuda/real.cuh"

#ifdef DELTAPROP_BFLOAT16
template <int N> struct StoredPack {
    Pack<unsigned, N / 2> pairs;

    __device__ real entry(int j) const { return from_bfloat16_pair(pairs.entry[j / 2], j % 2 == 1); }
    __device__ void round(const Pack<real, N>& x) {
        for (int i = 0; i < N / 2; ++i) pairs.entry[i] = to_bfloat16_pair(x.entry[2 * i], x.entry[2 * i + 1]);
    }
};
template <> struct StoredPack<1> {
    storage own;

    __device__ real entry(int) const { return load(own); }
    __device__ void round(const Pack<real, 1>& x) { own = store(x.entry[0]); }
};
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
// Writes x rounded to `storage`.
template <int N> __device__ inline void store_rounded(storage* to, const Pack<real, N>& x) {
    StoredPack<N> rounded;
    rounded.round(x);
    *reinterpret_cast<StoredPack<N>*>(to) = rounded;
}
