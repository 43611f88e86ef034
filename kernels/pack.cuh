// Elementwise work 16 bytes at a time, as the memory of a GPU wants it, where addresses allow.
#pragma once

template <typename T, int N> struct alignas(N * sizeof(T)) Pack {
    T entry[N];
};

template <int N> struct Width {
    static constexpr int entries = N;
};

template <typename T, int N> __device__ inline Pack<T, N> load_pack(const T* from) {
    return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <typename T, int N> __device__ inline void store_pack(T* to, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

__device__ inline bool aligned() { return true; }
template <typename T, typename... More> __device__ inline bool aligned(const T* first, const More*... more) {
    return reinterpret_cast<unsigned long long>(first) % 16 == 0 && aligned(more...);
}

// f(Width<N>{}, i) for entries i ... i + N - 1 of n, the whole grid together: N of them fill 16 bytes where `packed`,
// which is the same for all threads, and 1 elsewhere and at the end.
template <typename T, class F> __device__ inline void over_entries(long long n, bool packed, F f) {
    constexpr int N = 16 / sizeof(T);
    const long long step = (long long)gridDim.x * blockDim.x;
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long packs = packed ? n / N : 0;
    for (long long i = thread; i < packs; i += step) f(Width<N>{}, i * N);
    for (long long i = packs * N + thread; i < n; i += step) f(Width<1>{}, i);
}
