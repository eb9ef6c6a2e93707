// Stands in for libnvidia-ml.so.1. Its GPUs are files below $SPILLWAY_FAKE_NVML: BUSID.energy (mJ), BUSID.limit (mW); a file
// "refuses" there makes setting limits fail as without permission. Limits are allowed from 200 to 700 W.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kSuccess = 0, kNoPermission = 4, kNotFound = 6 };
static char names[8][64];

static const char* path(const char* name, const char* what) {
  static char text[512];
  const char* folder = getenv("SPILLWAY_FAKE_NVML");
  snprintf(text, sizeof text, "%s/%s%s", folder ? folder : "/nonexistent", name, what);
  return text;
}

static int read_number(const char* name, const char* what, unsigned long long* value) {
  FILE* file = fopen(path(name, what), "r");
  if (!file) return kNotFound;
  const int found = fscanf(file, "%llu", value);
  fclose(file);
  return found == 1 ? kSuccess : kNotFound;
}

int nvmlInit_v2(void) { return kSuccess; }
int nvmlShutdown(void) { return kSuccess; }
const char* nvmlErrorString(int result) {
  return result == kNoPermission ? "Insufficient Permissions" : "Not Found";
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, void** handle) {
  unsigned long long ignored;
  if (read_number(bus_id, ".limit", &ignored) != kSuccess) return kNotFound;
  for (int i = 0; i < 8; ++i)
    if (names[i][0] == 0 || strcmp(names[i], bus_id) == 0) {
      snprintf(names[i], sizeof names[i], "%s", bus_id);
      *handle = names[i];
      return kSuccess;
    }
  return kNotFound;
}

int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* millijoules) {
  return read_number(handle, ".energy", millijoules);
}

int nvmlDeviceGetPowerManagementLimit(void* handle, unsigned* milliwatts) {
  unsigned long long value = 0;
  const int result = read_number(handle, ".limit", &value);
  *milliwatts = (unsigned)value;
  return result;
}

int nvmlDeviceGetPowerManagementLimitConstraints(void* handle, unsigned* low, unsigned* high) {
  (void)handle;
  *low = 200000;
  *high = 700000;
  return kSuccess;
}

int nvmlDeviceSetPowerManagementLimit(void* handle, unsigned milliwatts) {
  FILE* refuses = fopen(path("refuses", ""), "r");
  if (refuses) {
    fclose(refuses);
    return kNoPermission;
  }
  FILE* file = fopen(path(handle, ".limit"), "w");
  if (!file) return kNotFound;
  fprintf(file, "%u\n", milliwatts);
  fclose(file);
  return kSuccess;
}
