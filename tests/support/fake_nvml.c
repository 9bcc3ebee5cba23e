/*
 * A stand-in for libnvidia-ml.so.1, told what to say by the file that FAKE_NVML names, which is read at every call.
 *
 * A line is `KEY VALUE...`. Keys of a device are `N.what`, of its MIG instance M `N.migM.what`. What a function is to
 * do instead of answering: `FUNCTION.error CODE`, `FUNCTION.hang`, `FUNCTION.crash`, `FUNCTION.sleep MILLISECONDS`, for
 * all devices or, with `N.` before it, for one. A value that no line gives is NVML_ERROR_NOT_SUPPORTED.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uintptr_t device_t; /* 1 + number; of an instance (1 + number) * 100 + 1 + its own */
typedef unsigned long long ull;

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };

struct memory { ull total, free, used; };
struct memory_v2 { unsigned version; ull total, reserved, free, used; };
struct utilization { unsigned gpu, memory; };
struct process { unsigned pid; ull memory; unsigned gpu_instance, compute_instance; };
struct sample { unsigned pid; ull at; unsigned sm, memory, encoder, decoder; };
struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };
struct field {
    uint32_t id, scope; int64_t at, latency; unsigned type, error;
    union { double d; unsigned ui; ull u; } value;
};

/* The text behind the `nth` line with this key; NULL without one. */
static char *line_of(const char *key, int nth, char *text) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    size_t length = strlen(key);
    char *found = NULL;
    while (file && !found && fgets(text, 1024, file)) {
        text[strcspn(text, "\n")] = 0;
        if (!strncmp(text, key, length) && (text[length] == ' ' || !text[length]) && nth-- == 0)
            found = text + length + (text[length] == ' ');
    }
    if (file) fclose(file);
    return found;
}

static void key_of(device_t device, const char *what, char *key) {
    if (device >= 100)
        snprintf(key, 256, "%d.mig%d.%s", (int)(device / 100) - 1, (int)(device % 100) - 1, what);
    else if (device)
        snprintf(key, 256, "%d.%s", (int)device - 1, what);
    else
        snprintf(key, 256, "%s", what);
}

static char *value_of(device_t device, const char *what, int nth, char *text) {
    char key[256];
    key_of(device, what, key);
    return line_of(key, nth, text);
}

static char *order(device_t device, const char *function, const char *what, char *text) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", function, what);
    char *found = device ? value_of(device, name, 0, text) : NULL;
    return found ? found : value_of(0, name, 0, text);
}

/* Whether there is more than a moment ago: so often as `N.grows TIMES` says. */
static int grows(device_t device) {
    static int times;
    char text[1024], *said = value_of(device, "grows", 0, text);
    return said && times++ < atoi(said);
}

/* What the script wants of this function instead of an answer; SUCCESS: answer. */
static int told(device_t device, const char *function) {
    char text[1024], *said;
    if (order(device, function, "crash", text)) abort();
    while (order(device, function, "hang", text)) sleep(1000);
    if ((said = order(device, function, "sleep", text))) usleep(1000 * atoi(said));
    return (said = order(device, function, "error", text)) ? atoi(said) : SUCCESS;
}

#define ASK(device)                                            \
    char text[1024], *said;                                    \
    int error = told(device, __func__);                        \
    (void)said; (void)text;                                    \
    if (error) return error

#define NEED(device, what) \
    if (!(said = value_of(device, what, 0, text))) return NOT_SUPPORTED

#define NUMBER(function, what, type)                           \
    int function(device_t device, type *out) {                 \
        ASK(device);                                           \
        NEED(device, what);                                    \
        *out = strtoull(said, NULL, 10);                       \
        return SUCCESS;                                        \
    }

#define TEXT(function, what)                                   \
    int function(device_t device, char *out, unsigned size) {  \
        ASK(device);                                           \
        NEED(device, what);                                    \
        snprintf(out, size, "%s", said);                       \
        return SUCCESS;                                        \
    }

int nvmlInitWithFlags(unsigned flags) { /* bit 0: not to fail where there is no device */
    ASK(0);
    said = value_of(0, "count", 0, text);
    return flags & 1 || (said && atoi(said)) ? SUCCESS : NOT_FOUND;
}
int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int error) {
    switch (error) {
    case 15: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    case 999: return "Unknown Error";
    default: return "some error";
    }
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    ASK(0);
    NEED(0, "driver");
    snprintf(out, size, "%s", said);
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    ASK(0);
    said = value_of(0, "count", 0, text);
    *count = said ? atoi(said) : 0;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *device) {
    ASK(index + 1);
    *device = index + 1;
    return SUCCESS;
}

TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetName, "name")
NUMBER(nvmlDeviceGetPowerUsage, "power", unsigned)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "power_limit", unsigned)
NUMBER(nvmlDeviceGetTotalEnergyConsumption, "energy", ull)
NUMBER(nvmlDeviceGetFanSpeed, "fan", unsigned)
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, "reasons", ull)
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, "old_reasons", ull)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation", unsigned)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width", unsigned)
NUMBER(nvmlDeviceGetMaxMigDeviceCount, "mig_most", unsigned)
NUMBER(nvmlDeviceGetGpuInstanceId, "gpu_instance", unsigned)
NUMBER(nvmlDeviceGetComputeInstanceId, "compute_instance", unsigned)

int nvmlDeviceGetPciInfo_v3(device_t device, struct pci *out) {
    ASK(device);
    NEED(device, "pci");
    snprintf(out->bus_id, sizeof out->bus_id, "%s", said);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(device_t device, struct memory *out) {
    ASK(device);
    NEED(device, "memory");
    if (sscanf(said, "%llu %llu", &out->used, &out->total) != 2) return NOT_SUPPORTED;
    out->free = out->total - out->used;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(device_t device, struct memory_v2 *out) {
    ASK(device);
    NEED(device, "memory_v2");
    return sscanf(said, "%llu %llu %llu", &out->used, &out->reserved, &out->total) == 3 ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetUtilizationRates(device_t device, struct utilization *out) {
    ASK(device);
    NEED(device, "utilization");
    return sscanf(said, "%u %u", &out->gpu, &out->memory) == 2 ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetTemperature(device_t device, unsigned sensor, unsigned *out) {
    ASK(device);
    if (sensor) return INVALID_ARGUMENT;
    NEED(device, "temperature");
    *out = atoi(said);
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(device_t device, unsigned kind, unsigned *out) {
    unsigned clocks[3];
    ASK(device);
    NEED(device, "clocks");
    if (kind > 2 || sscanf(said, "%u %u %u", clocks, clocks + 1, clocks + 2) != 3) return NOT_SUPPORTED;
    *out = clocks[kind];
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(device_t device, unsigned kind, unsigned counter, ull *out) {
    ull errors[2];
    ASK(device);
    NEED(device, counter ? "ecc_ever" : "ecc");
    if (kind > 1 || sscanf(said, "%llu %llu", errors, errors + 1) != 2) return NOT_SUPPORTED;
    *out = errors[kind];
    return SUCCESS;
}

int nvmlDeviceGetPcieThroughput(device_t device, unsigned kind, unsigned *out) {
    unsigned rates[2];
    ASK(device);
    NEED(device, "pcie"); /* sent, received */
    if (kind > 1 || sscanf(said, "%u %u", rates, rates + 1) != 2) return NOT_SUPPORTED;
    *out = rates[kind];
    return SUCCESS;
}

int nvmlDeviceGetFieldValues(device_t device, int count, struct field *fields) {
    ASK(device);
    NEED(device, "fields"); /* type, sent, received */
    unsigned type;
    ull values[2];
    if (sscanf(said, "%u %llu %llu", &type, values, values + 1) != 3) return NOT_SUPPORTED;
    for (int i = 0; i < count; i++) {
        if (fields[i].id != 197 && fields[i].id != 198) {
            fields[i].error = NOT_SUPPORTED;
            continue;
        }
        ull value = values[fields[i].id - 197];
        fields[i].error = SUCCESS;
        fields[i].type = type;
        if (type == 1) fields[i].value.ui = value;
        else fields[i].value.u = value;
    }
    return SUCCESS;
}

int nvmlDeviceGetMigMode(device_t device, unsigned *current, unsigned *pending) {
    ASK(device);
    NEED(device, "mig");
    *current = *pending = atoi(said);
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(device_t device, unsigned index, device_t *out) {
    ASK(device);
    *out = device * 100 + 1 + index;
    return value_of(*out, "uuid", 0, text) ? SUCCESS : NOT_FOUND;
}

static int processes(device_t device, const char *what, unsigned *count, struct process *out) {
    char text[1024], *said;
    unsigned there = 0;
    if (!value_of(device, "lists_processes", 0, text)) return NOT_SUPPORTED;
    if (out && grows(device)) return INSUFFICIENT_SIZE;
    for (; (said = value_of(device, what, there, text)); there++) {
        struct process one = {0, 0, 0xffffffff, 0xffffffff};
        int found = sscanf(said, "%u %lli %u %u", &one.pid, (long long *)&one.memory, &one.gpu_instance, &one.compute_instance);
        if (found < 2) return NOT_SUPPORTED;
        if (out && there < *count) out[there] = one;
    }
    int fits = there <= *count && (out || !there);
    *count = there;
    return fits ? SUCCESS : INSUFFICIENT_SIZE;
}

#define PROCESSES(function, what)                                               \
    int function(device_t device, unsigned *count, struct process *out) {       \
        ASK(device);                                                            \
        return processes(device, what, count, out);                             \
    }

PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, "compute")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics")
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, "mps")

/* What an old driver has instead: `N.old_compute`. */
int nvmlDeviceGetComputeRunningProcesses_v2(device_t device, unsigned *count, struct process *out) {
    ASK(device);
    NEED(device, "old_compute");
    return processes(device, "old_compute", count, out);
}

/* Records `N.sample PID TIMESTAMP PERCENT` newer than the one last seen; `N.stale` hands out the older ones too. */
int nvmlDeviceGetProcessUtilization(device_t device, struct sample *out, unsigned *count, ull last) {
    ASK(device);
    if (!value_of(device, "samples", 0, text)) return NOT_SUPPORTED;
    int stale = value_of(device, "stale", 0, text) != NULL;
    unsigned there = 0;
    for (int nth = 0; (said = value_of(device, "sample", nth, text)); nth++) {
        struct sample one = {0};
        if (sscanf(said, "%u %llu %u", &one.pid, &one.at, &one.sm) != 3 || (one.at <= last && !stale)) continue;
        if (out && there < *count) out[there] = one;
        there++;
    }
    if (!there) return NOT_FOUND;
    int fits = out && there <= *count && !grows(device);
    *count = there;
    return fits ? SUCCESS : INSUFFICIENT_SIZE;
}
