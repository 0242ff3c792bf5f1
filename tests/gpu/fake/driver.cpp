// libcuda for Triton and PyTorch's launcher of compiled kernels: modules load, launches are logged, nothing
// runs.
#include <dlfcn.h>

#include <cstdint>
#include <cstring>

#define EXPORT extern "C" __attribute__((visibility("default")))

// Looks up a function of the fake runtime, which LD_PRELOAD has loaded before this library.
template <typename Function>
static Function runtime(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

static int log_launch(void* kernel, void* stream) {
  using Log = void (*)(const char*, uintptr_t);
  static Log log = runtime<Log>("fake_gpu_driver_launch");
  if (log) log(kernel ? static_cast<const char*>(kernel) : "?", reinterpret_cast<uintptr_t>(stream));
  return 0;
}

// ---- calls that succeed and change nothing
#define QUIET_CALLS(F)                                                                                    \
  F(cuCtxSetCurrent)                                                                                      \
  F(cuCtxGetLimit)                                                                                        \
  F(cuCtxSetLimit)                                                                                        \
  F(cuDevicePrimaryCtxRetain) F(cuFuncSetAttribute) F(cuFuncSetCacheConfig) F(cuInit) F(cuLinkAddData_v2) \
      F(cuLinkComplete) F(cuLinkCreate_v2) F(cuModuleLoad) F(cuModuleLoadData) F(cuModuleLoadDataEx)      \
          F(cuModuleUnload) F(cuTensorMapEncodeTiled) F(cuTensorMapEncodeIm2col)
#define QUIET_CALL(name) \
  EXPORT int name() {    \
    return 0;            \
  }
QUIET_CALLS(QUIET_CALL)

// ---- device and context
EXPORT int cuCtxGetCurrent(void** context) {
  *context = reinterpret_cast<void*>(0x30);
  return 0;
}

EXPORT int cuCtxGetDevice(int* device) {
  using Current = int (*)(int*);
  static Current ask = runtime<Current>("cudaGetDevice");
  *device = 0;
  return ask ? ask(device) : 0;
}

EXPORT int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return 0;
}

EXPORT int cuDeviceGetCount(int* count) {
  using Count = int (*)(int*);
  static Count ask = runtime<Count>("cudaGetDeviceCount");
  *count = 1;
  return ask ? ask(count) : 0;
}

EXPORT int cuDeviceGetAttribute(int* value, int attribute, int device) {
  using Ask = int (*)(int*, int, int);
  static Ask ask = runtime<Ask>("cudaDeviceGetAttribute");  // both enumerations have the same numbers
  *value = 1;
  return ask ? ask(value, attribute, device) : 0;
}

EXPORT int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
  *flags = 0;
  *active = 1;
  return 0;
}

EXPORT int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}

EXPORT int cuGetErrorString(int, const char** text) {
  *text = "fake";
  return 0;
}

EXPORT int cuPointerGetAttribute(void* value, int attribute, uint64_t pointer) {
  if (attribute == 3) *static_cast<uint64_t*>(value) = pointer;  // CU_POINTER_ATTRIBUTE_DEVICE_POINTER
  return 0;
}

// ---- kernels: the handle of a function is its name
EXPORT int cuModuleGetFunction(void** function, void*, const char* name) {
  *function = strdup(name);
  return 0;
}

EXPORT int cuFuncGetAttribute(int* value, int attribute, void*) {
  *value = attribute == 0 ? 1024 : 0;  // CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK
  return 0;
}

EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int, size_t) {
  *blocks = 2;
  return 0;
}

EXPORT int cuOccupancyMaxActiveClusters(int* clusters, void*, const void*) {
  *clusters = 2;
  return 0;
}

EXPORT int cuPointerGetAttributes(unsigned, int*, void**, uint64_t) {
  return 0;
}

EXPORT int cuLaunchKernel(void* kernel, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                          void* stream, void**, void**) {
  return log_launch(kernel, stream);
}

EXPORT int cuLaunchCooperativeKernel(void* kernel, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                                     unsigned, void* stream, void**) {
  return log_launch(kernel, stream);
}

struct LaunchConfig {  // the head of CUlaunchConfig
  unsigned grid[3], block[3], shared_bytes;
  void* stream;
};

EXPORT int cuLaunchKernelEx(const LaunchConfig* config, void* kernel, void**, void**) {
  return log_launch(kernel, config->stream);
}
