// Elementwise work 16 bytes at a time, which is fastest on a GPU, if the addresses allow it.
#pragma once

// A wider pack is loaded 16 bytes at a time, so it needs no larger alignment.
template <typename T, int N> struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack {
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

// Calls f(Width<N>{}, i) for entries i ... i + N - 1 of all n, shared out over the grid. N entries fill 16 bytes if
// `packed`, which is the same for all threads; N is 1 otherwise and at the end.
template <typename T, class F> __device__ inline void over_entries(long long n, bool packed, F f) {
    constexpr int N = 16 / sizeof(T);
    const long long step = (long long)gridDim.x * blockDim.x;
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long packs = packed ? n / N : 0;
    for (long long i = thread; i < packs; i += step) f(Width<N>{}, i * N);
#pragma unroll 1
    for (long long i = packs * N + thread; i < n; i += step) f(Width<1>{}, i);
}

// to[i] = f(from[i]) for n entries. A thread loads two packs at a time.
template <typename T, class F>
__device__ inline void map_entries(const T* from, T* to, long long n, F f) {
    constexpr int N = 16 / sizeof(T);
    const long long step = (long long)gridDim.x * blockDim.x;
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long packs = aligned(from, to) ? n / N : 0;
    const auto put = [&](long long i, const Pack<T, N>& pack) {
        Pack<T, N> mapped;
        for (int j = 0; j < N; ++j) mapped.entry[j] = f(pack.entry[j]);
        store_pack<T, N>(to + i * N, mapped);
    };
#pragma unroll 1
    for (long long i = thread; i < packs; i += 2 * step) {
        const bool two = i + step < packs;
        const Pack<T, N> first = load_pack<T, N>(from + i * N);
        Pack<T, N> second;
        if (two) second = load_pack<T, N>(from + (i + step) * N);
        put(i, first);
        if (two) put(i + step, second);
    }
#pragma unroll 1
    for (long long i = packs * N + thread; i < n; i += step) to[i] = f(from[i]);
}
