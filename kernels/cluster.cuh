// Thread-block clusters, whose blocks write to each other's shared memory (sm_90 and later), and copies from global to
// shared memory that go on while the threads compute. A cluster of one is an ordinary block, on any architecture.
// Compiled as C++, all of it is what the including program makes of it (tests/host_cuda.h).
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

// Every thread of the cluster has come here, and what each wrote before is seen by all after.
template <int BLOCKS> __device__ inline void cluster_sync() {
#if DELTAPROP_HAS_CLUSTERS
    if (BLOCKS > 1) {
        asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
        return;
    }
#endif
    __syncthreads();
}

// The address in block `rank` of what lies at `mine` in this one's shared memory.
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

// 4, 8 or 16 bytes, to which both addresses are aligned, from global to shared memory; there after copies_done().
__device__ inline void copy_async(void* to, const void* from, int bytes) {
    const unsigned shared = (unsigned)__cvta_generic_to_shared(to);
    if (bytes == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
    else if (bytes == 8)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared), "l"(from) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared), "l"(from) : "memory");
}

// Those of this thread only: a barrier has to follow before others read them.
__device__ inline void copies_done() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#endif
