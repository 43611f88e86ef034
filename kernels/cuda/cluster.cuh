// Thread-block clusters, whose blocks write to each other's shared memory (sm_90 and later), and copies from global to
// shared memory that go on while the threads compute. A cluster of one is an ordinary block, on any architecture.
// Compiled as C++, the including program defines all of this (tests/host_cuda.h).
#pragma once

#ifdef __CUDACC__

#define DELTAPROP_DYNAMIC_SHARED(NAME) extern __shared__ __align__(16) unsigned char NAME[]

// Whether this architecture has clusters of more than one block.
#if __CUDA_ARCH__ >= 900
#define DELTAPROP_HAS_CLUSTERS 1
#else
#define DELTAPROP_HAS_CLUSTERS 0
#endif

template <int BLOCKS> __device__ inline int cluster_rank() {
    unsigned rank = 0;
#if DELTAPROP_HAS_CLUSTERS
    if (BLOCKS > 1) asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
    return (int)rank;
}

// Waits for every thread of the cluster. What each wrote before it, all see after it.
template <int BLOCKS> __device__ inline void cluster_sync() {
#if DELTAPROP_HAS_CLUSTERS
    if (BLOCKS > 1) {
        asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
        return;
    }
#endif
    __syncthreads();
}

// The address, in the shared memory of block `rank`, of the same place as `mine` in this block.
template <int BLOCKS, typename T> __device__ inline T* of_block(T* mine, int rank) {
#if DELTAPROP_HAS_CLUSTERS
    if (BLOCKS > 1) {
        T* theirs;
        asm("mapa.u64 %0, %1, %2;" : "=l"(theirs) : "l"(mine), "r"(rank));
        return theirs;
    }
#endif
    return mine;
}

// The address as the instructions of shared memory take it.
__device__ inline unsigned shared_place(const void* x) { return (unsigned)__cvta_generic_to_shared(x); }

// An Arrivals lies in the shared memory of a block, and counts the bytes that blocks of the cluster send to it: a
// barrier without a fence. A phase ends when as many bytes have come as one thread of the block has announced. The
// parities of the phases alternate; the first is 0. What a sender wrote or read before is not in order by that: a
// barrier of its block has to see to it.
typedef unsigned long long Arrivals;

// One thread calls it; a barrier of the cluster must follow.
__device__ inline void arrivals_begin(Arrivals* arrivals) {
#if DELTAPROP_HAS_CLUSTERS
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\n\tfence.mbarrier_init.release.cluster;" ::"r"(
                     shared_place(arrivals))
                 : "memory");
#endif
}

// One thread calls it, once a phase, before or after the first bytes come.
__device__ inline void arrivals_expected(Arrivals* arrivals, int bytes) {
#if DELTAPROP_HAS_CLUSTERS
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_place(arrivals)), "r"(bytes)
                 : "memory");
#endif
}

// A fence for shared memory alone, which compilers know since CUDA 12.8, takes no instruction; one for all memory
// empties the L1 cache.
#if __CUDACC_VER_MAJOR__ > 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 8)
#define DELTAPROP_TRY_WAIT "mbarrier.try_wait.parity.relaxed.cluster.shared::cta.b64"
#define DELTAPROP_ACQUIRE "fence.acquire.sync_restrict::shared::cluster.cluster;"
#else
#define DELTAPROP_TRY_WAIT "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64"
#define DELTAPROP_ACQUIRE ""
#endif

// Waits for the end of the phase of this parity. What was sent in it is seen after that.
__device__ inline void arrivals_wait(Arrivals* arrivals, unsigned parity) {
#if DELTAPROP_HAS_CLUSTERS
    unsigned ended = 0;
    while (!ended)
        asm volatile("{\n\t.reg .pred ended;\n\t"
                     DELTAPROP_TRY_WAIT " ended, [%1], %2;\n\t"
                     "selp.u32 %0, 1, 0, ended;\n\t}"
                     : "=r"(ended)
                     : "r"(shared_place(arrivals)), "r"(parity)
                     : "memory");
    asm volatile(DELTAPROP_ACQUIRE ::: "memory");
#endif
}

// Writes 4, 8 or 16 bytes to the place of `mine` in block `rank`, and counts them in its `arrivals`.
template <typename T> __device__ inline void send(T* mine, const T& x, Arrivals* arrivals, int rank) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "a number or 16 bytes");
#if DELTAPROP_HAS_CLUSTERS
    unsigned to, theirs;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(shared_place(mine)), "r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(theirs) : "r"(shared_place(arrivals)), "r"(rank));
    const unsigned* words = reinterpret_cast<const unsigned*>(&x);
    if constexpr (sizeof(T) == 16)
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
                         to),
                     "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3]), "r"(theirs)
                     : "memory");
    else if constexpr (sizeof(T) == 8)
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(to),
                     "r"(words[0]), "r"(words[1]), "r"(theirs)
                     : "memory");
    else
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to),
                     "r"(words[0]), "r"(theirs)
                     : "memory");
#endif
}

// Copies 4, 8 or 16 bytes, to which both addresses are aligned, from global to shared memory. They have arrived after
// copies_done().
__device__ inline void copy_async(void* to, const void* from, int bytes) {
    const unsigned shared = shared_place(to);
    if (bytes == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
    else if (bytes == 8)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared), "l"(from) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared), "l"(from) : "memory");
}

// Waits for the copies of this thread only: a barrier must follow before others read them.
__device__ inline void copies_done() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#endif
