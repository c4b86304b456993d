// The only atomics on shared bytes, and the only stores to a mapped region: a simulator that wants to record or reorder them
// replaces this file. Orders are C++'s.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace warmtier::layout {

template <typename T>
concept Word = std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8);

template <Word T>
inline T load_relaxed(const T& word) noexcept {
  return __atomic_load_n(&word, __ATOMIC_RELAXED);
}
template <Word T>
inline T load_acquire(const T& word) noexcept {
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
}
template <Word T>
inline void store_relaxed(T& word, std::type_identity_t<T> value) noexcept {
  __atomic_store_n(&word, value, __ATOMIC_RELAXED);
}
template <Word T>
inline void store_release(T& word, std::type_identity_t<T> value) noexcept {
  __atomic_store_n(&word, value, __ATOMIC_RELEASE);
}
template <Word T>
inline void store_seq_cst(T& word, std::type_identity_t<T> value) noexcept {
  __atomic_store_n(&word, value, __ATOMIC_SEQ_CST);
}
template <Word T>
inline T exchange(T& word, std::type_identity_t<T> value) noexcept {
  return __atomic_exchange_n(&word, value, __ATOMIC_SEQ_CST);
}
template <Word T>
inline T fetch_add(T& word, std::type_identity_t<T> value) noexcept {
  return __atomic_fetch_add(&word, value, __ATOMIC_RELAXED);
}
// A counter with one writer: no locked instruction.
template <Word T>
inline void count(T& word, std::type_identity_t<T> value = 1) noexcept {
  __atomic_store_n(&word, static_cast<T>(__atomic_load_n(&word, __ATOMIC_RELAXED) + value), __ATOMIC_RELAXED);
}
// Raises a word to at least `value`.
template <Word T>
inline void raise_to(T& word, std::type_identity_t<T> value) noexcept {
  T seen = __atomic_load_n(&word, __ATOMIC_RELAXED);
  while (seen < value && !__atomic_compare_exchange_n(&word, &seen, value, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
  }
}

inline void fence_full() noexcept { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void fence_acquire() noexcept { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
inline void fence_release() noexcept { __atomic_thread_fence(__ATOMIC_RELEASE); }

inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// A line that will be read soon. The compiler does not count its own prefetch as an effect: g++ 12 drops calls of a function that
// does nothing else.
inline void prefetch(const void* line) noexcept {
#if defined(__x86_64__)
  __asm__ volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(line)));
#elif defined(__aarch64__)
  __asm__ volatile("prfm pldl1keep, %0" : : "Q"(*static_cast<const char*>(line)));
#else
  __builtin_prefetch(line);
#endif
}

// A line that will be stored to soon: brought here and taken away from the others. The compiler's own prefetch for writing asks
// for a copy that is shared unless it builds for newer processors only.
inline void prefetch_for_store(const void* line) noexcept {
#if defined(__x86_64__)
  __asm__ volatile("prefetchw %0" : : "m"(*static_cast<const char*>(line)));
#else
  __builtin_prefetch(line, 1);
#endif
}

// Bytes that nobody may read before a later release store publishes them.
inline void store_bytes(void* shared, const void* from, size_t n) noexcept { std::memcpy(shared, from, n); }
inline void store_zeros(void* shared, size_t n) noexcept { std::memset(shared, 0, n); }

// Four scalars that are never seen half updated.
struct alignas(16) Quad {
  float confidence;
  float activation;
  float decay_rate;
  uint32_t recall_count;
};
static_assert(sizeof(Quad) == 16);

// One 16-byte access: atomic on x86 with AVX and on ARM with LSE2. By inline assembly, because a compiler's 16-byte atomic
// load may be a compare-and-swap, which faults on a read-only page.
inline Quad load_quad(const Quad& shared) noexcept {
  Quad value;
#if defined(__x86_64__)
  typedef float Vector __attribute__((vector_size(16)));
  Vector v;
  __asm__ volatile("vmovdqa %1, %0" : "=x"(v) : "m"(shared));
  std::memcpy(&value, &v, sizeof value);
#elif defined(__aarch64__)
  uint64_t low, high;
  __asm__ volatile("ldp %0, %1, %2" : "=r"(low), "=r"(high) : "Q"(shared));
  std::memcpy(&value, &low, 8);
  std::memcpy(reinterpret_cast<char*>(&value) + 8, &high, 8);
#endif
  return value;
}
inline void store_quad(Quad& shared, const Quad& value) noexcept {
#if defined(__x86_64__)
  typedef float Vector __attribute__((vector_size(16)));
  Vector v;
  std::memcpy(&v, &value, sizeof v);
  __asm__ volatile("vmovdqa %1, %0" : "=m"(shared) : "x"(v));
#elif defined(__aarch64__)
  uint64_t low, high;
  std::memcpy(&low, &value, 8);
  std::memcpy(&high, reinterpret_cast<const char*>(&value) + 8, 8);
  __asm__ volatile("stp %1, %2, %0" : "=Q"(shared) : "r"(low), "r"(high));
#endif
}

}  // namespace warmtier::layout
